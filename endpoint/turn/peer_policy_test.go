package turn

import (
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/peer"
)

// TestAddressesOfTheMachineChange adds an address to the machine after the start, as router advertisements, DHCP and failover do,
// and checks that peers there are refused, on running allocations too, until it is removed.
func TestAddressesOfTheMachineChange(t *testing.T) {
	e, err := New(loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	late := netip.MustParseAddrPort("8.8.4.4:5000")
	var has atomic.Bool
	e.localPrefixes = func() ([]netip.Prefix, error) {
		local, err := peer.LocalPrefixes()
		if has.Load() {
			local = append(local, netip.PrefixFrom(late.Addr(), 32))
		}
		return local, err
	}
	watch := &fakeWatch{tell: make(chan struct{}), closed: make(chan struct{})}
	e.watchLocal = func() (localWatch, error) { return watch, nil }
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer e.Shutdown(t.Context())
	for _, own := range []bool{false, true, false} {
		has.Store(own)
		for range 3 { // the third is taken after the policy was made for the first
			watch.tell <- struct{}{}
		}
		if _, ok := e.allocator.MayPermit(late.Addr()); ok == own {
			t.Errorf("address of this machine: %v, permission given: %v", own, ok)
		}
		if rule, ok := e.allocator.MayReach(late); ok == own {
			t.Errorf("address of this machine: %v, data passes: %v %s", own, ok, rule)
		}
	}
}

// fakeWatch announces a change for each value sent to tell.
type fakeWatch struct {
	tell, closed chan struct{}
}

func (w *fakeWatch) Next() error {
	select {
	case <-w.tell:
		return nil
	case <-w.closed:
		return net.ErrClosed
	}
}

func (w *fakeWatch) Close() error { close(w.closed); return nil }
