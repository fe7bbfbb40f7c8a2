package event

// DropReason is the reason why a packet was dropped.
type DropReason uint8

// Reasons, in the order in which they are checked.
const (
	DropMalformed        DropReason = iota // neither STUN nor ChannelData, or with an invalid length or FINGERPRINT
	DropUnexpected                         // a method or class that a TURN server does not receive
	DropUnauthenticated                    // an unauthenticated request above the rate of its network
	DropGuess                              // a request with wrong credentials, after too many from its address
	DropRequestRate                        // a request above the request rate of its allocation
	DropNoAllocation                       // data from a client without an allocation
	DropNoChannel                          // data from a client on an unbound channel
	DropNoPermission                       // data from a client to a peer without a permission
	DropPeerNoPermission                   // data from a peer without a permission
	DropSilentPeer                         // data above the limit for peers that never answer
	DropCalls                              // data of a call above MaxCallsPerUser
	DropBandwidth                          // data above a bandwidth or packet rate limit
	DropRefusedPeer                        // data to a peer that the policy refuses
	DropOversize                           // too large for a Data indication, or for the buffer of a DTLS client
	DropQueue                              // data for a stream client that does not read
	DropSend                               // the system did not accept the packet
	DropOverload                           // under overload: a request, or data above the share of its client
	DropDTLS                               // a DTLS packet or record without an association, forged, repeated, inadmissible, or above a limit
	NumDropReasons                         // number of reasons
)

// String returns the reason as a metric label.
func (r DropReason) String() string {
	return [...]string{
		"malformed", "unexpected", "unauthenticated", "guess", "request_rate", "no_allocation", "no_channel", "no_permission",
		"peer_no_permission",
		"silent_peer", "user_calls", "bandwidth", "refused_peer", "oversize", "queue", "send", "overload",
		"dtls",
	}[r]
}
