package generator

// window records which of a flow's last 256 packets have arrived.
type window struct {
	next uint64 // above the highest that has arrived
	bits [4]uint64
}

// first reports whether a number arrives for the first time. It returns false for numbers below the window.
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
