package event

// Traffic is the traffic relayed in one direction: packets, and bytes of payload without headers.
type Traffic struct {
	Packets uint64
	Bytes   uint64
}

// Plus returns the sum of t and other.
func (t Traffic) Plus(other Traffic) Traffic {
	return Traffic{t.Packets + other.Packets, t.Bytes + other.Bytes}
}

// Minus returns the difference between t and an earlier state of it.
func (t Traffic) Minus(earlier Traffic) Traffic {
	return Traffic{t.Packets - earlier.Packets, t.Bytes - earlier.Bytes}
}
