package turn

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/mailturn/mailturn/framework/listen"
)

// TestNAT64OfTheNetwork checks the policy after DNS has returned a NAT64, no answer, another NAT64, and then none.
func TestNAT64OfTheNetwork(t *testing.T) {
	e, err := New(loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil { // its relay has no IPv6, so that nothing but this test asks
		t.Fatal(err)
	}
	defer e.Shutdown(t.Context())
	first, second := netip.MustParseAddr("2a00:64::10.0.0.1"), netip.MustParseAddr("2a00:65::10.0.0.1")
	for _, tt := range []struct {
		name         string
		addr         string
		err          error
		ok           bool
		first, other bool // are reached
	}{
		{"nothing known", "", &net.DNSError{Err: "no such host", IsNotFound: true}, true, true, true},
		{"a NAT64", "2a00:64::192.0.0.170", nil, true, false, true},
		{"no answer", "", &net.DNSError{Err: "timeout", IsTimeout: true}, false, false, true},
		{"another failure", "", errors.New("no descriptors"), false, false, true},
		{"another NAT64", "2a00:65::192.0.0.170", nil, true, true, false},
		{"none any more", "", &net.DNSError{Err: "no such host", IsNotFound: true}, true, true, true},
	} {
		e.lookupNAT64 = func(context.Context) ([]netip.Addr, error) {
			if tt.err != nil {
				return nil, tt.err
			}
			return []netip.Addr{netip.MustParseAddr(tt.addr)}, nil
		}
		if ok := e.updateNAT64(t.Context()); ok != tt.ok {
			t.Errorf("%s: answered %v, want %v", tt.name, ok, tt.ok)
		}
		for addr, want := range map[netip.Addr]bool{first: tt.first, second: tt.other} {
			if rule, ok := e.allocator.MayPermit(addr); ok != want {
				t.Errorf("%s: a permission for %v is given: %v %q, want %v", tt.name, addr, ok, rule, want)
			}
		}
		// A new policy, as after a change of addresses, keeps the prefixes.
		if err := e.updatePolicy(); err != nil {
			t.Fatal(err)
		}
		if _, ok := e.allocator.MayPermit(first); ok != tt.first {
			t.Errorf("%s: a later policy lacks the prefix", tt.name)
		}
	}
}
