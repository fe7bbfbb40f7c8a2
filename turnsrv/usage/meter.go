// Package usage counts what users relay in a day.
package usage

import (
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// User is whose traffic is counted together: the holder of a credential. An anonymous subject may be several people, who are told
// apart by their Source (IPv6: /64); it is the zero Prefix for all others.
type User struct {
	Subject credential.Subject
	Source  netip.Prefix
}

// Total is what was relayed in each direction.
type Total struct{ ToPeer, ToClient event.Traffic }

// Bytes returns the bytes of payload in both directions.
func (t Total) Bytes() uint64 { return t.ToPeer.Bytes + t.ToClient.Bytes }

// Plus returns the sum of two totals.
func (t Total) Plus(other Total) Total {
	return Total{t.ToPeer.Plus(other.ToPeer), t.ToClient.Plus(other.ToClient)}
}

// Meter counts what users relay in a day. Several servers may share one. Its methods are called from several goroutines and must not
// block.
type Meter interface {
	// Add counts what a user has relayed since the last call, and returns the bytes of the day so far. It is called about once a
	// second for each allocation that relays.
	Add(user User, relayed Total, now time.Time) (today uint64)
	// Today returns the bytes of the day so far.
	Today(user User, now time.Time) uint64
}
