package turn

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/peer"
)

const (
	// nat64Period is the time between two queries for the NAT64 of the network. RFC 7050 section 3 lets clients keep the answer for
	// its TTL, some hours in networks that follow the RFC's advice.
	nat64Period = time.Hour
	// nat64Retry is the time until the next query if there was no answer.
	nat64Retry = time.Minute
	// nat64Timeout bounds one lookup.
	nat64Timeout = 10 * time.Second
)

// lookupNAT64 asks the DNS server of this machine's network, whose answer contains its NAT64 prefix: RFC 7050 section 3.
func lookupNAT64(ctx context.Context) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip6", peer.NAT64Name+".") // without the search list
}

// followNAT64 refuses peers that a NAT64 of the relay's network would translate to IPv4 addresses: in an IPv6-only network it may
// have any prefix, under which a client could name a private address.
func (e *Endpoint) followNAT64(ctx context.Context) {
	for {
		period := nat64Period
		if !e.updateNAT64(ctx) {
			period = nat64Retry
		}
		select {
		case <-time.After(period):
		case <-ctx.Done():
			return
		}
	}
}

// updateNAT64 asks once and reports whether there was an answer. Without one, the known prefixes stay.
func (e *Endpoint) updateNAT64(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, nat64Timeout)
	defer cancel()
	addrs, err := e.lookupNAT64(ctx)
	if failed, ok := errors.AsType[*net.DNSError](err); err != nil && (!ok || !failed.IsNotFound) {
		e.logger.Debug("cannot see whether the network has a NAT64", "err", err)
		return false
	}
	prefixes := peer.NAT64Prefixes(addrs)
	e.policyMu.Lock()
	same := slices.Equal(prefixes, e.nat64)
	e.nat64 = prefixes
	e.policyMu.Unlock()
	if same {
		return true
	}
	e.logger.Info("peers under the NAT64 of this network are refused", "prefixes", prefixes)
	if err := e.updatePolicy(); err != nil {
		e.logger.Warn("cannot make a policy of peers", "err", err)
		return false
	}
	return true
}
