package event

// Traffic is the traffic relayed in one direction: packets, and bytes of payload without headers.
type Traffic struct {
	Packets uint64
	Bytes   uint64
}
