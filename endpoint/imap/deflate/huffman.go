package deflate

// maxCodeLength is the maximum length of a code in RFC 1951 section 3.2.7.
const maxCodeLength = 15

// codeCounts is a Huffman code (RFC 1951 section 3.2.2), together with its symbols: how many codes there are of each length. The
// codes of one length are consecutive numbers in the order of their symbols, so the counts are enough to decode without a table of
// all bit patterns, at some cost in time.
type codeCounts [maxCodeLength + 1]uint16

type literalCode struct {
	counts  codeCounts
	symbols [288]uint16
}

type distanceCode struct {
	counts  codeCounts
	symbols [32]uint16
}

// make builds the code in which symbol i has a code of lengths[i] bits, or none if that is 0. It stores the symbols in symbols, in
// the order of their codes. It returns false if there are too many codes, or unused bit patterns, with two exceptions that
// compressors write for a block without distances, or with a single one: no code, and one code of one bit.
func (c *codeCounts) make(symbols []uint16, lengths []uint8) bool {
	*c = codeCounts{}
	for _, length := range lengths {
		c[length]++
	}
	c[0] = 0
	var offsets [maxCodeLength + 2]uint16
	left := 1
	for length := 1; length <= maxCodeLength; length++ {
		left = left<<1 - int(c[length])
		if left < 0 {
			return false
		}
		offsets[length+1] = offsets[length] + c[length]
	}
	for i, length := range lengths {
		if length > 0 {
			symbols[offsets[length]] = uint16(i)
			offsets[length]++
		}
	}
	codes := offsets[maxCodeLength+1]
	return left == 0 || codes == 0 || codes == 1 && c[1] == 1
}

// decode returns the next symbol and the size of its code, which it does not consume. It returns false if there is not enough
// input, or no such code.
func (c *codeCounts) decode(f *Inflater, p *progress, symbols []uint16) (symbol int, size uint8, ok bool) {
	code, first, index := 0, 0, 0
	for size = 1; size <= maxCodeLength; size++ {
		if f.nbits < size && !f.need(p, size) {
			return 0, 0, false
		}
		code |= int(f.bits>>(size-1)) & 1
		count := int(c[size])
		if code < first+count {
			return int(symbols[index+code-first]), size, true
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0, f.corrupt()
}
