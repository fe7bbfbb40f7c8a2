package relay

import (
	"runtime"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

func TestPollersForgetWhatIsClosed(t *testing.T) {
	a := newAllocator(t, Config{})
	for range 10 {
		c, _ := allocate(t, a, Request{}, nil)
		c.Close()
	}
	open, _ := allocate(t, a, Request{}, nil)
	known := 0
	for _, p := range a.sockets.pollers {
		known += len(p.sockets)
		if s := p.socket(int32(open.socket.(*polledSocket).fd)); s != nil && s != open.socket {
			t.Error("a poller takes a closed socket for the one that is open")
		}
	}
	if known != 1 {
		t.Errorf("the pollers know %d sockets, want 1", known)
	}
}

// TestNothingIsHeldWithoutAnAddress checks that neither the port nor the one reserved with it remains taken when an address
// cannot be watched.
func TestNothingIsHeldWithoutAnAddress(t *testing.T) {
	a := newAllocator(t, Config{})
	for range runtime.GOMAXPROCS(0) {
		allocate(t, a, Request{}, nil)
	}
	for _, p := range a.sockets.pollers {
		_ = p.epoll.Close()
	}
	f := a.families[stun.IPv4]
	before := len(f.used)
	c, _, err := a.Allocate(Request{Family: stun.IPv4, EvenPort: true, ReserveNext: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(new(owner)); err == nil {
		t.Fatal("started an address without a reader")
	}
	c.Close()
	if len(a.reserved) != 0 || len(f.used) != before {
		t.Errorf("%d reservations and %d more ports are held", len(a.reserved), len(f.used)-before)
	}
}
