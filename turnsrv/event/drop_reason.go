package event

// DropReason says why a packet went nowhere.
type DropReason uint8

// Reasons, in the order of a packet's way.
const (
	DropMalformed        DropReason = iota // neither STUN nor ChannelData, or with a length or FINGERPRINT that is wrong
	DropUnexpected                         // a method or class that a TURN server does not take
	DropUnauthenticated                    // a request without credentials, beyond the rate of its network
	DropGuess                              // a request with wrong credentials, after too many from its address
	DropRequestRate                        // a request for an allocation that has had too many of late
	DropNoAllocation                       // data from a client that has none
	DropNoChannel                          // data from a client on a channel that is not bound
	DropNoPermission                       // data from a client to a peer without a permission
	DropPeerNoPermission                   // data from a peer that has none
	DropSilentPeer                         // data to a peer that never answers, beyond what such a one gets
	DropBandwidth                          // data beyond what an allocation, its user, or all of them may relay
	DropRefusedPeer                        // data to a peer that the policy refuses
	DropOversize                           // does not fit: from a peer a Data indication, from a DTLS client the buffer
	DropQueue                              // data for a stream client that does not read
	DropSend                               // the socket did not take it
	DropDTLS                               // belongs to no DTLS association, or none would send it, or there are too many of them
	NumDropReasons                         // how many there are
)

// String returns the reason as a metric's label.
func (r DropReason) String() string {
	return [...]string{
		"malformed", "unexpected", "unauthenticated", "guess", "request_rate", "no_allocation", "no_channel", "no_permission", "peer_no_permission",
		"silent_peer", "bandwidth", "refused_peer", "oversize", "queue", "send", "dtls",
	}[r]
}
