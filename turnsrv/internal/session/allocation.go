package session

import (
	"bytes"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// allocation is an allocation, RFC 8656 section 3.2. It has one relayed transport address, or one of each family if it is a
// dual allocation. Fields without a comment are owned by the goroutine of the session.
type allocation struct {
	session   *Session
	following *allocation // see index
	client    Client
	addresses []*relayedAddress // one or two
	peers     peers

	// The owner of the allocation, and the credential that keeps it alive.
	username, realm string
	subject         credential.Subject
	key             []byte
	expires         time.Time     // expiry of the credential; zero means never
	withdrawn       time.Duration // when the credential was first found to be no longer granted, since Shared.start, if isWithdrawn

	since       int64              // when the allocation was made: Unix time in nanoseconds
	made        stun.TransactionID // of the request that made it
	isWithdrawn bool
	counted     bool // included in Shared.active

	silence  Silence              // safe for concurrent use
	silent   silentSpending       // traffic to peers that have not answered
	rates    [numDirections]rates // safe for concurrent use
	account  *holding             // set by the quota
	call     call
	requests limit.Rate // rate of signed requests
	offloads limit.Rate // rate of channels given to the kernel
	icmp     limit.Rate // rate of ICMP errors; safe for concurrent use
	share    loop.Share // what the client has sent in the round

	relayed  uint64       // packets relayed when the janitor last ran
	restless int          // index in Session.restless and one, or zero
	expiry   int          // index in Session.expiries and one, or zero
	active   atomic.Int64 // when the janitor last saw traffic, or the allocation was made: nanoseconds since Shared.start
}

func (a *allocation) identity() Client   { return a.client }
func (a *allocation) next() **allocation { return &a.following }

// address returns the relayed address of a family, or nil if the allocation has none.
func (a *allocation) address(family stun.Family) *relayedAddress {
	for _, address := range a.addresses {
		if address.family == family {
			return address
		}
	}
	return nil
}

// towards returns the relayed address of the family of peer, or nil if the allocation has none. An IPv4-mapped address belongs
// to neither family, because an IPv6 socket cannot send to it.
func (a *allocation) towards(peer netip.AddrPort) *relayedAddress {
	switch {
	case peer.Addr().Is4In6():
		return nil
	case peer.Addr().Is4():
		return a.address(stun.IPv4)
	}
	return a.address(stun.IPv6)
}

// goodUntil returns the time from which the allocation can no longer be refreshed: grace after its credential expires or is
// withdrawn, whichever comes first. A credential is withdrawn when its static user or its secret is removed from the
// configuration. This is detected at the next request, which a client sends at least once per lifetime. The zero time means
// never.
func (a *allocation) goodUntil(authenticator credential.Authenticator, grace time.Duration, now time.Time) time.Time {
	grant, _ := authenticator.Lookup(a.username, a.realm)
	granted := slices.ContainsFunc(grant.Keys, func(key credential.Key) bool { return bytes.Equal(key.Value, a.key) })
	shared := a.session.shared
	switch {
	case granted && !now.Before(grant.NotBefore):
		a.isWithdrawn = false
	case !a.isWithdrawn:
		a.isWithdrawn, a.withdrawn = true, now.Sub(shared.start)
	}
	end := a.expires
	if withdrawn := shared.moment(a.withdrawn, now); a.isWithdrawn && (end.IsZero() || withdrawn.Before(end)) {
		end = withdrawn
	}
	if end.IsZero() {
		return end
	}
	return end.Add(grace)
}
