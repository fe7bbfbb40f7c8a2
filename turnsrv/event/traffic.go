package event

// Traffic counts what was relayed in one direction: packets, and bytes of what peers send and receive, without headers.
type Traffic struct {
	Packets uint64
	Bytes   uint64
}
