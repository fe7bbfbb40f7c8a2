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
	// nat64Period is how often the endpoint asks for the NAT64 of its network. RFC 7050 section 3 has the answer kept for its
	// time to live, which is some hours where networks follow the RFC's advice.
	nat64Period = time.Hour
	// nat64Retry is how soon it asks again when there was no answer.
	nat64Retry = time.Minute
	// nat64Timeout bounds one look-up.
	nat64Timeout = 10 * time.Second
)

// lookupNAT64 asks the DNS of this machine's network, whose answer names its NAT64: RFC 7050 section 3.
func lookupNAT64(ctx context.Context) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip6", peer.NAT64Name+".") // without the search list
}

// followNAT64 keeps out of reach what a NAT64 of the relay's network would turn into addresses of IPv4: in a network of IPv6 alone
// it may have any prefix, under which a peer could name a private address.
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

// updateNAT64 asks once and reports whether there was an answer. Without one, what was known stays.
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
