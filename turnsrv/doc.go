// Package turnsrv is a TURN server (RFC 8656) over STUN (RFC 8489).
//
// Each listening socket has a link, which knows how its clients are reached, and a front, which keeps their allocations:
//
//	client ──▶ link ──▶ front ──▶ relay.Conn ──▶ peer
//	client ◀── link ◀── relayed address ◀── relay.Conn ◀── peer
//
// Everything that changes the state of a client runs on one goroutine per front: it waits for a message, for the next visit of
// the janitor, or for what other goroutines have left for it. Packets of peers are read by a few goroutines of package relay, which
// look up permissions and channels under the lock of the allocation and hand them to the link.
//
// What one allocation sends to the relayed address of another one does not pass through sockets: the relay.Conn of the sender
// hands it to the allocation that owns the other address.
package turnsrv
