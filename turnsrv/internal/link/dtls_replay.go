package link

// replayWindow remembers which sequence numbers have been received, RFC 6347 section 4.1.2.6. Its zero value is one in which none
// has.
type replayWindow struct {
	next uint64 // one more than the highest number
	seen uint64 // the numbers before next: next-1 is the lowest bit
}

// fresh reports whether a number has not been received, and is recent enough to know.
func (w *replayWindow) fresh(number uint64) bool {
	if number >= w.next {
		return true
	}
	age := w.next - 1 - number
	return age < 64 && w.seen>>age&1 == 0
}

// add records a number, which must be fresh. It is called only after the record was authenticated.
func (w *replayWindow) add(number uint64) {
	if number >= w.next {
		w.seen <<= number + 1 - w.next // by 64 or more makes it 0
		w.next = number + 1
	}
	w.seen |= 1 << (w.next - 1 - number)
}
