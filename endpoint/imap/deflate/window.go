package deflate

// windowSize is how far a stream may refer back (RFC 1951 section 2).
const windowSize = 32 << 10

// window holds the last windowSize bytes of a stream; it grows up to that size.
type window struct {
	b    []byte
	next int // the index of the next byte: len(b) until the window is full, and then that of the oldest byte
}

// write appends p.
func (w *window) write(p []byte) {
	if len(p) > windowSize {
		p = p[len(p)-windowSize:]
	}
	if missing := len(w.b) + len(p) - cap(w.b); missing > 0 && cap(w.b) < windowSize {
		grown := make([]byte, len(w.b), min(windowSize, max(2*cap(w.b), len(w.b)+len(p))))
		copy(grown, w.b)
		w.b = grown
	}
	n := min(len(p), windowSize-len(w.b))
	w.b = append(w.b, p[:n]...)
	w.next = (w.next + n) % windowSize
	for p = p[n:]; len(p) > 0; p = p[n:] {
		n = copy(w.b[w.next:], p)
		w.next = (w.next + n) % windowSize
	}
}

// before returns the bytes that begin distance bytes before the end, or the first part of them. distance is at most len(w.b).
func (w *window) before(distance int) []byte {
	if start := w.next - distance; start >= 0 {
		return w.b[start:w.next]
	}
	return w.b[len(w.b)+w.next-distance:]
}
