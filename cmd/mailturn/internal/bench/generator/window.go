package generator

// window knows which of a flow's packets have arrived, of the last 256 numbers.
type window struct {
	next uint64 // above the highest that has arrived
	bits [4]uint64
}

// first reports whether a number comes for the first time. Of numbers that are too low to be known, none does.
func (w *window) first(number uint64) bool {
	const size = 64 * uint64(len(w.bits))
	if number+size < w.next {
		return false
	}
	if number >= w.next+size {
		w.bits = [len(w.bits)]uint64{}
		w.next = number
	}
	for ; w.next <= number; w.next++ {
		w.bits[w.next%size/64] &^= 1 << (w.next % 64)
	}
	place, bit := &w.bits[number%size/64], uint64(1)<<(number%64)
	if *place&bit != 0 {
		return false
	}
	*place |= bit
	return true
}
