package page

import (
	"context"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/mailturn/mailturn/framework/resolver"
)

const (
	lookupLimit  = 5 * time.Second
	addressesTTL = time.Minute
)

// addresses finds the addresses of relays, and keeps them for addressesTTL. It is safe for concurrent use.
type addresses struct {
	lookup func(ctx context.Context, host string) []netip.Addr

	mu    sync.Mutex
	known map[string]known // guarded by mu; by host, those that have not expired
}

type known struct {
	addrs []netip.Addr
	until time.Time
}

// of returns an address of each family that host has, IPv4 first; none if nobody knows. An address of loopback, which hosts files
// give to a machine's own name, is of use to visitors on the same machine alone.
func (a *addresses) of(ctx context.Context, host string, client netip.Addr, now time.Time) (addrs []netip.Addr) {
	var first [2]netip.Addr
	for _, addr := range a.all(ctx, host, now) {
		i := 0
		if addr.Is6() {
			i = 1
		}
		if !first[i].IsValid() && (!addr.IsLoopback() || client.IsLoopback()) {
			first[i] = addr
		}
	}
	for _, addr := range first {
		if addr.IsValid() {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func (a *addresses) all(ctx context.Context, host string, now time.Time) []netip.Addr {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}
	}
	a.mu.Lock()
	found, ok := a.known[host]
	a.mu.Unlock()
	if ok && now.Before(found.until) {
		return found.addrs
	}
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	addrs := a.lookup(ctx, host)
	if ctx.Err() != nil {
		return addrs // the visitor has gone, or DNS is slow: that says nothing about the host
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil {
		a.known = make(map[string]known)
	}
	maps.DeleteFunc(a.known, func(_ string, k known) bool { return !now.Before(k.until) })
	a.known[host] = known{addrs, now.Add(addressesTTL)}
	return addrs
}

// lookUp asks DNS, as visitors do, and only then this machine's hosts file, in which a machine often has a private address or one
// of loopback for its own name.
func lookUp(ctx context.Context, host string) []netip.Addr {
	system, err := resolver.System()
	if err != nil {
		return nil
	}
	public := *system
	public.Hosts = nil
	answer, err := public.Lookup(ctx, host)
	if err != nil {
		answer, _ = system.Lookup(ctx, host)
	}
	return answer.Addrs()
}
