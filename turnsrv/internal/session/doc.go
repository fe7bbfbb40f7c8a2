// Package session implements the protocol of a TURN server (RFC 8656 over RFC 8489). Its input is a message, the state and the
// time; its output is state, responses and packets. It has no sockets, goroutines or clocks of its own.
//
// A Session holds the allocations of the clients of one Link and is owned by the goroutine that serves the link. Shared holds
// what the sessions of one server have in common. Data from a peer arrives at its relayed address (Deliver) on the goroutine of
// the session's worker, or on a goroutine of package relay. Deliver looks up the permission and the channel under the lock of the
// allocation and sends the data over the link.
package session
