// Package turnsrv is a TURN server (RFC 8656) over STUN (RFC 8489) around pion/turn.
//
// pion is the state machine: it owns allocations and channels, and says when they end. A front stands before it, one for each
// listening socket:
//
//	client ──▶ link ──▶ front ──▶ relay.Conn ──▶ peer
//	                     │  ▲
//	            requests ▼  │ what came of them
//	                     pion
//	client ◀── link ◀── allocation ◀── relay.Conn ◀── peer
//
// Data passes by pion, which would format addresses for a log that nobody keeps and search a list of channels for each packet,
// and would read each relayed address on a goroutine with a buffer of its own: a few readers of package relay take from all of
// them what peers send. What one allocation sends to the relayed address of another one does not go through sockets: the
// relay.Conn of the sender hands it to the allocation that owns the other, which puts it on the link of its own front.
//
// The front reads what clients send, decides every error in the order of the RFCs, keeps their permissions, and hands pion
// only requests of its own making, signed with a key that no client knows. What pion answers, the front says to the client in
// its own words. pion's names for clients are handles: addresses that stand for one allocation and are never used again, so
// that nothing which pion does late can hit the next allocation of the same 5-tuple.
//
// Everything that changes state runs on one goroutine per front, pion's read loop: pion asks the front for the next
// message, the front looks at the clock, at what other goroutines left for it and then at its socket. So an allocation
// always ends in the same place, by a Refresh with lifetime 0 that the front asks of pion, and never by a timer of pion's.
package turnsrv
