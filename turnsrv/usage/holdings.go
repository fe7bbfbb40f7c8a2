package usage

import "github.com/mailturn/mailturn/turnsrv/credential"

// Holding is what a user has on a server at a time.
type Holding struct {
	Addresses int // relayed addresses
	Calls     int // counted only while the calls of a user are limited
}

// Holdings are what users have on several servers together, for the limits of each user. Its methods are called from several goroutines
// and must not block.
type Holdings interface {
	// Hold says what a user now has on this server. Calls for one user are in order.
	Hold(user credential.Subject, held Holding)
	// Addresses returns how many relayed addresses a user has on other servers.
	Addresses(user credential.Subject) int
	// Calls returns how many calls a user has on other servers, and how many of these began before the latest one on this server, as far
	// as this is known, which takes a moment after one has begun.
	Calls(user credential.Subject) (n, earlier int)
}
