package session

import (
	"bytes"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// allocation is one allocation, RFC 8656 section 3.2: one relayed address for a 5-tuple, or one of each family if it is a dual
// allocation. What has no comment belongs to the goroutine of the session.
type allocation struct {
	session   *Session
	client    Client
	addresses []*relayedAddress // one or two
	peers     peers

	// Who made the allocation, and the credential with which it goes on.
	username, realm string
	subject         credential.Subject
	key             []byte
	expires         time.Time // of the credential; zero: never
	withdrawn       time.Time // when the credential was first seen not to be granted any more; zero while it is

	// made and response are the transaction that made the allocation and its answer, which a retransmission gets again.
	made     stun.TransactionID
	response []byte

	silence  Silence              // safe for concurrent use
	silent   silentSpending       // to peers that have not answered
	rates    [numDirections]rates // safe for concurrent use
	account  *holding             // set by the quota
	requests limit.Rate           // signed ones

	relayed uint64       // packets, when the janitor last looked
	counted bool         // among Server.active
	active  atomic.Int64 // when the janitor last saw more of them, or the allocation was made: nanoseconds after Server.start
}

// address returns the relayed address of a family, or nil if the allocation has none.
func (a *allocation) address(family stun.Family) *relayedAddress {
	for _, address := range a.addresses {
		if address.family == family {
			return address
		}
	}
	return nil
}

// towards returns the relayed address that reaches peer, which is the one of its family, or nil if there is none. An IPv4-mapped
// address is of neither family: it names a peer that an IPv6 socket does not reach.
func (a *allocation) towards(peer netip.AddrPort) *relayedAddress {
	switch {
	case peer.Addr().Is4In6():
		return nil
	case peer.Addr().Is4():
		return a.address(stun.IPv4)
	}
	return a.address(stun.IPv6)
}

// goodUntil returns the moment from which the credential is no longer accepted for the allocation that began with it: grace after
// it has expired or was withdrawn, whichever was first. It is withdrawn when its static user, or the secret under which it was
// issued, is gone, which shows at the next request: a client has to send one in each lifetime. The zero time is never.
func (a *allocation) goodUntil(authenticator credential.Authenticator, grace time.Duration, now time.Time) time.Time {
	grant, _ := authenticator.Lookup(a.username, a.realm)
	granted := slices.ContainsFunc(grant.Keys, func(key credential.Key) bool { return bytes.Equal(key.Value, a.key) })
	switch {
	case granted && !now.Before(grant.NotBefore):
		a.withdrawn = time.Time{}
	case a.withdrawn.IsZero():
		a.withdrawn = now
	}
	end := a.expires
	if !a.withdrawn.IsZero() && (end.IsZero() || a.withdrawn.Before(end)) {
		end = a.withdrawn
	}
	if end.IsZero() {
		return end
	}
	return end.Add(grace)
}
