package usage

import "github.com/mailturn/mailturn/turnsrv/credential"

// Holdings are what users have on several servers together, for the quota of each user. Its methods are called from several goroutines
// and must not block.
type Holdings interface {
	// Hold says how many relayed addresses a user now has on this server. Calls for one user are in order.
	Hold(user credential.Subject, addresses int)
	// Held returns how many relayed addresses a user has on other servers.
	Held(user credential.Subject) int
}
