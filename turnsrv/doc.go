// Package turnsrv is a TURN server (RFC 8656) over STUN (RFC 8489).
//
// The way of a packet, and back:
//
//	client ──▶ link ──▶ session ──▶ relay.Conn ──▶ peer
//	client ◀── link ◀── session ◀── relay.Conn ◀── peer
//
// A Server serves any number of sockets. Each has a link (internal/link), which knows how its clients are reached, and a session
// (internal/session), which is the protocol. Everything that changes the state of a client runs on the goroutine that serves the
// link. Packets of peers are read by a few goroutines of package relay.
//
// What one allocation sends to the relayed address of another one does not pass through sockets: the relay.Conn of the sender
// hands it to the allocation that owns the other address.
package turnsrv
