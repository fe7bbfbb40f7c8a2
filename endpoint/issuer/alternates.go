package issuer

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// Alternates contains the relays to which the TURN endpoint of this file sends clients while it drains: those in relay blocks and
// in the cluster that accept its credentials. Use NewAlternates. Safe for concurrent use.
type Alternates struct {
	relays  atomic.Pointer[func() []WeightedRelay]
	cluster atomic.Pointer[Directory] // nil without a cluster
	found   atomic.Pointer[[]alternate]
	changed chan struct{} // has room for one
}

// NewAlternates returns Alternates without relays.
func NewAlternates() *Alternates {
	a := &Alternates{changed: make(chan struct{}, 1)}
	none := func() []WeightedRelay { return nil }
	a.relays.Store(&none)
	return a
}

// alternate is a relay with its addresses.
type alternate struct {
	WeightedRelay
	addrs []netip.Addr
}

// Set replaces the relays with those of issuers that share a secret with the TURN endpoint, which accepts those given, and those of
// the ring unless it is nil.
func (a *Alternates) Set(issuers []*Config, accepted []credential.Secret, ring *credential.Ring) {
	relays := func() (relays []WeightedRelay) {
		for _, c := range issuers {
			for _, r := range append(c.liveElsewhere(), c.Relays...) {
				known := func(other WeightedRelay) bool { return other.identity() == r.identity() }
				r.Names = c.Names
				if r.elsewhere() && r.Weight > 0 && !slices.ContainsFunc(relays, known) && shareSecret(r.Secrets.V, slices.Concat(ring.Accepted(), accepted)) {
					relays = append(relays, r)
				}
			}
		}
		return relays
	}
	a.relays.Store(&relays)
	a.cluster.Store(nil)
	for _, c := range issuers {
		if c.Cluster != nil {
			a.cluster.Store(&c.Cluster)
		}
	}
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// region returns the region of a client, empty if it is unknown.
func (a *Alternates) region(client netip.Addr) string {
	if directory := a.cluster.Load(); directory != nil {
		return (*directory).Region(client)
	}
	return ""
}

// Changed returns a channel that receives a value after Set. The receiver should then call Look.
func (a *Alternates) Changed() <-chan struct{} { return a.changed }

// shareSecret reports whether one of the secrets is in both lists.
func shareSecret(a, b []credential.Secret) bool {
	return slices.ContainsFunc(a, func(secret credential.Secret) bool {
		return slices.ContainsFunc(b, func(other credential.Secret) bool { return bytes.Equal(secret.Bytes(), other.Bytes()) })
	})
}

// maxLookups is the number of names that are looked up at a time.
const maxLookups = 16

// Look looks up the addresses of the relays. For returns nothing before. A relay whose name cannot be looked up keeps the addresses
// that it had, and is left out if it had none.
func (a *Alternates) Look(ctx context.Context, lookup func(ctx context.Context, host string) ([]netip.Addr, error)) error {
	relays := (*a.relays.Load())()
	found, errs := make([]alternate, len(relays)), make([]error, len(relays))
	var looking sync.WaitGroup
	places := make(chan struct{}, maxLookups)
	for i, r := range relays {
		places <- struct{}{}
		looking.Go(func() {
			defer func() { <-places }()
			var addrs []netip.Addr
			if addrs, errs[i] = lookup(ctx, r.Server.V); errs[i] != nil {
				addrs = a.former(r)
			}
			found[i] = alternate{r, addrs}
		})
	}
	looking.Wait()
	for _, f := range found {
		for i, addr := range f.addrs {
			f.addrs[i] = addr.Unmap()
		}
	}
	a.found.Store(&found)
	return errors.Join(errs...)
}

// former returns the addresses that the last Look has found for a relay.
func (a *Alternates) former(r WeightedRelay) []netip.Addr {
	if found := a.found.Load(); found != nil {
		for _, f := range *found {
			if f.identity() == r.identity() {
				return slices.Clone(f.addrs)
			}
		}
	}
	return nil
}

// For returns the address and the name of the relay for an account, over the transport and address family that the client uses. It
// is the relay that Config.ForClient returns for the account and the client.
func (a *Alternates) For(account string, tuple event.FiveTuple) (server netip.AddrPort, domain string, ok bool) {
	found := a.found.Load()
	if found == nil {
		return netip.AddrPort{}, "", false
	}
	region, near, highest := a.region(tuple.Client.Addr()), false, math.Inf(-1)
	for _, r := range *found {
		port := r.port(tuple.Transport)
		at := slices.IndexFunc(r.addrs, func(addr netip.Addr) bool { return addr.Is4() == tuple.Client.Addr().Is4() })
		if port == 0 || at < 0 {
			continue
		}
		isNear := region != "" && r.Region == region
		score := r.score(r.Names.Account(account))
		if isNear && !near || isNear == near && score > highest {
			server, domain, ok, near, highest = netip.AddrPortFrom(r.addrs[at], port), r.Server.V, true, isNear, score
		}
	}
	if _, err := netip.ParseAddr(domain); err == nil {
		domain = ""
	}
	return server, domain, ok
}

// port returns the port that clients are told for a transport, or 0 if they are told none. They are never told about DTLS.
func (c Config) port(transport event.Transport) uint16 {
	switch transport {
	case event.UDP:
		return c.UDPPort
	case event.TCP:
		return c.TCPPort
	case event.TLS:
		return c.TLSPort.V
	}
	return 0
}
