// Package turnsrv implements a TURN server (RFC 8656) over STUN (RFC 8489).
//
// The path of a packet in each direction:
//
//	client ──▶ link ──▶ session ──▶ relay.Conn ──▶ peer
//	client ◀── link ◀── session ◀── relay.Conn ◀── peer
//
// A Server serves any number of sockets. Each has a link (internal/link), which connects it to its clients, and a session
// (internal/session), which implements the protocol. All changes to the state of a client are made on the goroutine that serves
// the link: on Linux, that of a worker (an event loop, internal/loop), which also reads the packets from peers. Without workers,
// each relayed address has a goroutine that reads them.
//
// Data that one allocation sends to the relayed transport address of another one does not pass through a socket: the sender's
// relay.Conn delivers it to the allocation that owns the address.
package turnsrv
