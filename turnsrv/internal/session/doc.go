// Package session is the protocol of a TURN server (RFC 8656 over RFC 8489): a message, the state and the time come in; state,
// answers and packets go out. It has no socket, no goroutine and no clock of its own.
//
// A Session keeps the allocations of the clients of one Link, and belongs to the goroutine that serves the link. Shared is what the
// sessions of one server have in common. What a peer sends comes to the relayed address (Deliver) on a goroutine of package relay: it
// looks up the permission and the channel under the lock of the allocation and goes out by the link.
package session
