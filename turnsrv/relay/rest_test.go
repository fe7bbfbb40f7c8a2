package relay

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestRest checks when the ports of an earlier process are used, and what OnUse is told.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inUse := make(map[uint16]bool) // of this allocator, which calls OnUse on the goroutine of the test
		now := time.Now()
		a, err := New(Config{
			Addresses: []Address{{loopback, loopback}}, MinPort: 49152, MaxPort: 49155, Peers: allowLoopback(),
			Rest: Rest{
				Ports: map[stun.Family][]uint16{stun.IPv4: {49152, 49154}, stun.IPv6: {49153}},
				Never: now.Add(time.Minute), Until: now.Add(time.Hour),
			},
			OnUse:  func(_ stun.Family, port uint16, used bool) { inUse[port] = used },
			Listen: listenToNobody,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		allocate := func(r Request) *Conn {
			t.Helper()
			r.Family = stun.IPv4
			conn, _, err := a.Allocate(r)
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		for range 20 {
			first, second := allocate(Request{}), allocate(Request{})
			if !inUse[49153] || !inUse[49155] || inUse[49152] || inUse[49154] {
				t.Fatalf("ports in use: %v, want 49153 and 49155", inUse)
			}
			if _, _, err := a.Allocate(Request{Family: stun.IPv4}); !errors.Is(err, ErrNoPort) {
				t.Fatalf("got %v, want ErrNoPort", err)
			}
			first.Close()
			second.Close()
			if inUse[49153] || inUse[49155] {
				t.Fatalf("ports in use: %v, want none", inUse)
			}
		}
		if _, _, err := a.Allocate(Request{Family: stun.IPv4, EvenPort: true, ReserveNext: true}); !errors.Is(err, ErrNoPort) {
			t.Fatalf("a pair of ports: got %v, want ErrNoPort", err)
		}

		time.Sleep(time.Minute)
		conns := []*Conn{allocate(Request{}), allocate(Request{})}
		if !inUse[49153] || !inUse[49155] {
			t.Errorf("ports in use: %v, want those that do not rest", inUse)
		}
		conns = append(conns, allocate(Request{}), allocate(Request{}))
		for _, conn := range conns {
			conn.Close()
		}

		time.Sleep(time.Hour)
		for range 100 {
			allocate(Request{}).Close()
		}
		for port := uint16(49152); port <= 49155; port++ {
			if used, ever := inUse[port]; used || !ever {
				t.Errorf("port %d: in use %v, ever used %v", port, used, ever)
			}
		}
	})
}
