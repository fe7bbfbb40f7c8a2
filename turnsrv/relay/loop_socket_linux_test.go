package relay

import (
	"errors"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestAddressesShareALoop checks that an address requires no goroutine of its own.
func TestAddressesShareALoop(t *testing.T) {
	l := newLoop(t)
	a := newAllocator(t, Config{})
	before := runtime.NumGoroutine()
	for range 100 {
		allocate(t, a, Request{Loop: l}, nil)
	}
	if grown := runtime.NumGoroutine() - before; grown > 0 {
		t.Errorf("100 addresses cost %d goroutines", grown)
	}
}

// TestMemoryOfIdleAddresses opens many addresses on a loop, and checks what each adds to the heap, including the tables of the
// allocator and the loop.
func TestMemoryOfIdleAddresses(t *testing.T) {
	const addresses, most = 500, 256 // every system allows that many descriptors
	l := newLoop(t)
	a := newAllocator(t, Config{})
	o, conns := new(owner), make([]*Conn, 0, addresses)
	defer func() {
		on(l, func() {
			for _, c := range conns {
				c.Close()
			}
		})
	}()
	open := func(n int) {
		on(l, func() {
			for range n {
				c, _, err := a.Allocate(Request{Family: stun.IPv4, Loop: l})
				if err != nil {
					t.Error(err)
					return
				}
				conns = append(conns, c)
				if err := c.Start(o); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	heap := func() int {
		runtime.GC()
		runtime.GC() // what sync.Pools hold survives one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	open(1)
	before := heap()
	open(addresses - 1)
	each := (heap() - before) / (addresses - 1)
	t.Logf("an idle address takes %d bytes", each)
	if each > most {
		t.Errorf("an idle address takes %d bytes, want at most %d", each, most)
	}
}

// TestRelayToRelay sends between relayed addresses on the same loop, on two loops, and with a goroutine of their own.
func TestRelayToRelay(t *testing.T) {
	one, two := newLoop(t), newLoop(t)
	for name, loops := range map[string][2]*loop.Loop{
		"same loop": {one, one}, "two loops": {one, two}, "goroutine to loop": {nil, one}, "loop to goroutine": {one, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAllocator(t, Config{})
			o, heard := new(owner), &owner{heard: make(chan string, 10)}
			from, _ := allocate(t, a, Request{Loop: loops[0]}, o)
			to, _ := allocate(t, a, Request{Loop: loops[1]}, heard)
			on(loops[0], func() {
				for _, data := range []string{"first", "", "third"} {
					from.Send([]byte(data), to.Relayed(), false, time.Now())
				}
			})
			for _, want := range []string{"first", "", "third"} {
				if got := <-heard.heard; got != want {
					t.Errorf("delivered %q, want %q", got, want)
				}
			}
			on(loops[0], func() {
				if o.sent != 3 || o.unsent != 0 {
					t.Errorf("%d packets sent and %d not sent, want 3 and 0", o.sent, o.unsent)
				}
			})
			if want := netip.AddrPortFrom(loopback, from.Relayed().Port()).String() + " first"; heard.got[0] != want {
				t.Errorf("delivered %q, want %q", heard.got[0], want)
			}
		})
	}
}

// TestReservationKeepsItsKind claims, without a loop, a port that was reserved for a loop.
func TestReservationKeepsItsKind(t *testing.T) {
	l := newLoop(t)
	a := newAllocator(t, Config{})
	_, token := allocate(t, a, Request{Loop: l, EvenPort: true, ReserveNext: true}, nil)
	if _, _, err := a.Allocate(Request{Family: stun.IPv4, Token: &token}); !errors.Is(err, ErrToken) {
		t.Errorf("claiming a port that was reserved for a loop: %v, want %v", err, ErrToken)
	}
	if f := a.family(stun.IPv4); len(f.ports.used) != 1 || len(a.reserved) != 0 {
		t.Errorf("%d ports are in use and %d reserved, want 1 and 0", len(f.ports.used), len(a.reserved))
	}
}

// TestDontFragmentOnLoop checks that packets that are waiting to be sent keep their own setting of the DF bit.
func TestDontFragmentOnLoop(t *testing.T) {
	l := newLoop(t)
	o := new(owner)
	c, _ := allocate(t, newAllocator(t, Config{}), Request{Loop: l}, o)
	far, farAddr := listen(t)
	on(l, func() {
		for _, not := range []bool{true, false, true} {
			c.Send([]byte("x"), farAddr.AddrPort(), not, time.Now())
		}
	})
	for range 3 {
		read(t, far)
	}
	on(l, func() {
		if o.sent != 3 {
			t.Errorf("%d packets sent, want 3", o.sent)
		}
	})
}

// TestLocalAddrOnLoop compares the address that a Conn reports with that of its socket, also of a reserved port, and after it is closed.
func TestLocalAddrOnLoop(t *testing.T) {
	for _, host := range []netip.Addr{loopback, netip.IPv4Unspecified()} {
		l := newLoop(t)
		a := newAllocator(t, Config{Addresses: []Address{{Bind: host, Advertise: loopback}}})
		even, token := allocate(t, a, Request{Loop: l, EvenPort: true, ReserveNext: true}, nil)
		odd, _ := allocate(t, a, Request{Loop: l, Token: &token}, nil)
		for _, c := range []*Conn{even, odd} {
			var bound netip.AddrPort
			on(l, func() { bound = c.socket.(*loopSocket).Socket.LocalAddr() })
			if got := c.LocalAddr().String(); got != bound.String() || bound.Port() != c.Relayed().Port() {
				t.Errorf("%v is bound to %v, want %v", c.Relayed(), got, bound)
			}
			on(l, c.Close)
			if got := c.LocalAddr().String(); got != bound.String() {
				t.Errorf("%v was bound to %v, want %v", c.Relayed(), got, bound)
			}
		}
	}
}
