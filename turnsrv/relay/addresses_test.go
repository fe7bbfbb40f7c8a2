package relay

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestSetAddresses changes the address of a relay in the middle of a call, back, and adds and removes the other family.
func TestSetAddresses(t *testing.T) {
	first, second := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	six := netip.MustParseAddr("2001:db8::1")
	a := newAllocator(t, Config{Addresses: []Address{{first, first}}, MinPort: 49152, MaxPort: 49155, Listen: listenToNobody})
	allocate := func(id stun.Family) *Conn {
		t.Helper()
		conn, _, err := a.Allocate(Request{Family: id})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Start(new(owner)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
	change := func(addrs ...netip.Addr) {
		t.Helper()
		var list []Address
		for _, addr := range addrs {
			list = append(list, Address{addr, addr})
		}
		if err := a.SetAddresses(list); err != nil {
			t.Fatal(err)
		}
	}
	old := allocate(stun.IPv4)
	change(second, six)
	if got := old.Relayed().Addr(); got != first {
		t.Errorf("the address of a call changed to %v", got)
	}
	if own, _, _ := a.route(old.Relayed()); own != old || !a.Owns(first) {
		t.Error("the address of a call is not the relay's any more")
	}
	for range 3 { // of four ports
		if conn := allocate(stun.IPv4); conn.Relayed().Addr() != second || conn.Relayed().Port() == old.Relayed().Port() {
			t.Errorf("%v after the change, with a call on %v", conn.Relayed(), old.Relayed())
		}
	}
	if _, _, err := a.Allocate(Request{Family: stun.IPv4}); !errors.Is(err, ErrNoPort) {
		t.Errorf("got %v, want ErrNoPort", err)
	}
	if got := allocate(stun.IPv6).Relayed().Addr(); got != six {
		t.Errorf("IPv6: got %v", got)
	}

	change(first)
	old.Close()
	if got := allocate(stun.IPv4).Relayed(); got.Addr() != first || got.Port() != old.Relayed().Port() {
		t.Errorf("after the return: %v, want the free port on %v", got, first)
	}
	if a.Has(stun.IPv6) || !a.Owns(six) || !a.Owns(second) {
		t.Errorf("has IPv6 %v, owns %v %v and %v %v", a.Has(stun.IPv6), six, a.Owns(six), second, a.Owns(second))
	}
	for _, wrong := range [][]Address{nil, {{first, six}}, {{first, first}, {second, second}}, {{first, netip.IPv4Unspecified()}}} {
		if err := a.SetAddresses(wrong); err == nil {
			t.Errorf("no error for %v", wrong)
		}
	}
	if got := a.family(stun.IPv4).Advertise; got != first {
		t.Errorf("after errors: %v", got)
	}
}

// TestFormerAddress checks that an address without relayed addresses is forgotten.
func TestFormerAddress(t *testing.T) {
	first, second := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	a := newAllocator(t, Config{Addresses: []Address{{first, first}}, Listen: listenToNobody})
	conn, _, err := a.Allocate(Request{Family: stun.IPv4})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := a.SetAddresses([]Address{{second, second}}); err != nil {
		t.Fatal(err)
	}
	if a.Owns(first) || len(a.current.Load().all) != 1 {
		t.Error("the former address is still the relay's")
	}
}
