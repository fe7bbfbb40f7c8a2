package deflate

import (
	"errors"
	"io"
)

// ErrCorrupt is the error for a stream that violates RFC 1951.
var ErrCorrupt = errors.New("corrupt DEFLATE stream")

// Codes of RFC 1951 section 3.2.5 and bounds of section 3.2.7.
const (
	endOfBlock      = 256
	maxLiteralCodes = 286 // 286 and 287 have codes and stand for nothing
	maxDistances    = 30  // so do 30 and 31
)

// The bases of lengths from symbol 257 on and of distances, and how many extra bits follow (RFC 1951 section 3.2.5).
var (
	lengthBase = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}

	distanceBase = [...]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distanceBits = [...]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// codeLengthOrder is the order of the lengths of the code length code (RFC 1951 section 3.2.7).
var codeLengthOrder = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// An Inflater decompresses one stream, in pieces of any size. The zero value is ready to use. It keeps 1.2 KB, and the last 32 KiB
// of its output, to which the stream may refer: a connection with little data costs little memory.
type Inflater struct {
	step  inflateStep
	final bool // the present block is the last
	// flushed: an empty block, which flushing writes (Z_SYNC_FLUSH), has been read and nothing after it.
	flushed bool
	err     error

	// Input that has been read but not used: nbits bits, the first in the lowest place.
	bits  uint64
	nbits uint8

	literals  literalCode
	distances distanceCode

	// Of the current block:
	stored             int // bytes left of a block without compression
	length, distance   int // of the copy that is made; length counts down
	nliteral, ndist, n int // of the lengths below: those of either code, and how many have been read
	ncode              int
	lengths            [maxLiteralCodes + maxDistances]uint8

	window window
}

type inflateStep uint8

const (
	blockHeader  inflateStep = iota // RFC 1951 section 3.2.3
	storedHeader                    // section 3.2.4
	storedBytes
	dynamicHeader // section 3.2.7
	codeLengths
	symbolLengths
	symbol // section 3.2.5
	distance
	match
)

// Inflate decompresses src into dst until one of them is used up or src has reached the end of a flush, and returns how many bytes
// of each it has used. It never needs a byte beyond the last one of a symbol, so everything that was compressed comes out, however
// it was flushed.
//
// If src continues after the stream's end, or only the end was left, err is io.EOF; if it is not a DEFLATE stream, ErrCorrupt. Both
// are final, and are returned together with the bytes before them.
func (f *Inflater) Inflate(dst, src []byte) (ndst, nsrc int, err error) {
	if f.err != nil {
		return 0, 0, f.err
	}
	p := &progress{dst: dst, src: src}
	for f.err == nil && f.advance(p) && !f.flushed {
	}
	f.window.write(dst[:p.ndst])
	return p.ndst, p.nsrc, f.err
}

// Flushed reports whether the bytes used so far end where the compressing side has flushed or ended its stream: at a byte boundary,
// after which something other than the stream may follow.
func (f *Inflater) Flushed() bool {
	return f.flushed || f.final && f.step == blockHeader
}

// progress is the state of a call of Inflate.
type progress struct {
	dst, src   []byte
	ndst, nsrc int
}

// advance does the next step. It returns false if input or room is missing.
func (f *Inflater) advance(p *progress) bool {
	switch f.step {
	case blockHeader:
		return f.readBlockHeader(p)
	case storedHeader:
		return f.readStoredHeader(p)
	case storedBytes:
		return f.copyStored(p)
	case dynamicHeader:
		return f.readDynamicHeader(p)
	case codeLengths:
		return f.readCodeLengths(p)
	case symbolLengths:
		return f.readSymbolLengths(p)
	case symbol:
		return f.readSymbols(p)
	case distance:
		return f.readDistance(p)
	default:
		return f.copyMatch(p)
	}
}

// need reads until there are n bits, where n is at most 32.
func (f *Inflater) need(p *progress, n uint8) bool {
	for f.nbits < n {
		if p.nsrc == len(p.src) {
			return false
		}
		f.bits |= uint64(p.src[p.nsrc]) << f.nbits
		f.nbits += 8
		p.nsrc++
	}
	return true
}

// take consumes the next n bits, which must have been read.
func (f *Inflater) take(n uint8) int {
	value := f.bits & (1<<n - 1)
	f.bits >>= n
	f.nbits -= n
	return int(value)
}

func (f *Inflater) corrupt() bool {
	f.err = ErrCorrupt
	return false
}

func (f *Inflater) readBlockHeader(p *progress) bool {
	if f.final {
		f.err = io.EOF
		return false
	}
	if !f.need(p, 3) {
		return false
	}
	f.flushed = false
	f.final = f.take(1) == 1
	switch f.take(2) {
	case 0:
		f.step = storedHeader
		f.take(f.nbits % 8) // to the next byte boundary
	case 1:
		f.literals, f.distances = fixedLiterals, fixedDistances
		f.step = symbol
	case 2:
		f.step = dynamicHeader
	default:
		return f.corrupt()
	}
	return true
}

func (f *Inflater) readStoredHeader(p *progress) bool {
	if !f.need(p, 32) {
		return false
	}
	f.stored = f.take(16)
	if f.take(16) != f.stored^0xFFFF {
		return f.corrupt()
	}
	f.step = storedBytes
	if f.stored == 0 {
		f.step = blockHeader
		f.flushed = !f.final
	}
	return true
}

func (f *Inflater) copyStored(p *progress) bool {
	n := min(f.stored, len(p.dst)-p.ndst, len(p.src)-p.nsrc)
	copy(p.dst[p.ndst:], p.src[p.nsrc:p.nsrc+n])
	p.ndst += n
	p.nsrc += n
	if f.stored -= n; f.stored > 0 {
		return false
	}
	f.step = blockHeader
	return true
}

// The fixed codes (RFC 1951 section 3.2.6). Building them for each block would be the most work that a client could cause with one
// byte.
var fixedLiterals, fixedDistances = fixedCodes()

func fixedCodes() (literals literalCode, distances distanceCode) {
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	literals.counts.make(literals.symbols[:], lengths[:])
	for i := range 32 {
		lengths[i] = 5
	}
	distances.counts.make(distances.symbols[:], lengths[:32])
	return literals, distances
}

func (f *Inflater) readDynamicHeader(p *progress) bool {
	if !f.need(p, 5+5+4) {
		return false
	}
	f.nliteral = f.take(5) + 257
	f.ndist = f.take(5) + 1
	f.ncode = f.take(4) + 4
	if f.nliteral > maxLiteralCodes || f.ndist > maxDistances {
		return f.corrupt()
	}
	f.n = 0
	f.lengths = [len(f.lengths)]uint8{}
	f.step = codeLengths
	return true
}

// readCodeLengths reads the code in which the lengths of the two others are written. It is stored in place of the code of
// distances.
func (f *Inflater) readCodeLengths(p *progress) bool {
	for f.n < f.ncode {
		if !f.need(p, 3) {
			return false
		}
		f.lengths[codeLengthOrder[f.n]] = uint8(f.take(3))
		f.n++
	}
	if !f.distances.counts.make(f.distances.symbols[:], f.lengths[:len(codeLengthOrder)]) {
		return f.corrupt()
	}
	f.n = 0
	f.step = symbolLengths
	return true
}

// readSymbolLengths reads the lengths of both codes, which are one sequence.
func (f *Inflater) readSymbolLengths(p *progress) bool {
	for f.n < f.nliteral+f.ndist {
		length, size, ok := f.distances.counts.decode(f, p, f.distances.symbols[:])
		if !ok {
			return false
		}
		if length < 16 {
			f.take(size)
			f.lengths[f.n] = uint8(length)
			f.n++
			continue
		}
		repeated, least, extra := uint8(0), 3, uint8(3)
		switch length {
		case 16:
			if f.n == 0 {
				return f.corrupt()
			}
			repeated, extra = f.lengths[f.n-1], 2
		case 18:
			least, extra = 11, 7
		}
		if !f.need(p, size+extra) {
			return false
		}
		f.take(size)
		count := least + f.take(extra)
		if f.n+count > f.nliteral+f.ndist {
			return f.corrupt()
		}
		for range count {
			f.lengths[f.n] = repeated
			f.n++
		}
	}
	if !f.literals.counts.make(f.literals.symbols[:], f.lengths[:f.nliteral]) ||
		!f.distances.counts.make(f.distances.symbols[:], f.lengths[f.nliteral:f.n]) {
		return f.corrupt()
	}
	f.step = symbol
	return true
}

// readSymbols reads literals up to the next length or the end of the block.
func (f *Inflater) readSymbols(p *progress) bool {
	for {
		value, size, ok := f.literals.counts.decode(f, p, f.literals.symbols[:])
		switch {
		case !ok:
			return false
		case value < endOfBlock:
			if p.ndst == len(p.dst) {
				return false
			}
			f.take(size)
			p.dst[p.ndst] = byte(value)
			p.ndst++
			continue
		case value == endOfBlock:
			f.take(size)
			f.step = blockHeader
			return true
		}
		value -= endOfBlock + 1
		if value >= len(lengthBase) {
			return f.corrupt()
		}
		if !f.need(p, size+lengthBits[value]) {
			return false
		}
		f.take(size)
		f.length = int(lengthBase[value]) + f.take(lengthBits[value])
		f.step = distance
		return true
	}
}

func (f *Inflater) readDistance(p *progress) bool {
	value, size, ok := f.distances.counts.decode(f, p, f.distances.symbols[:])
	if !ok {
		return false
	}
	if value >= len(distanceBase) {
		return f.corrupt()
	}
	if !f.need(p, size+distanceBits[value]) {
		return false
	}
	f.take(size)
	f.distance = int(distanceBase[value]) + f.take(distanceBits[value])
	if f.distance > len(f.window.b)+p.ndst {
		return f.corrupt()
	}
	f.step = match
	return true
}

// copyMatch copies the bytes that the length and the distance refer to.
func (f *Inflater) copyMatch(p *progress) bool {
	for f.length > 0 {
		n := min(f.length, len(p.dst)-p.ndst)
		if n == 0 {
			return false
		}
		from := p.ndst - f.distance
		if from >= 0 {
			n = copy(p.dst[p.ndst:p.ndst+n], p.dst[from:p.ndst])
		} else {
			n = copy(p.dst[p.ndst:p.ndst+n], f.window.before(-from))
		}
		p.ndst += n
		f.length -= n
	}
	f.step = symbol
	return true
}
