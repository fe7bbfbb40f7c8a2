package link

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// nothing is a handler that does nothing.
type nothing struct{}

func (nothing) Handle([]byte, session.Client, time.Time) {}
func (nothing) Gone(session.Client, time.Time)           {}
func (nothing) Tick(time.Time)                           {}
func (nothing) End(time.Time)                            {}

// TestDatagramAllocatesNothing checks that passing a datagram to the handler allocates no memory.
func TestDatagramAllocatesNothing(t *testing.T) {
	on, err := loop.New(loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(on.Close)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoopDatagram(conn, on, &receiver{counters: new(count.Counters)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Discard() })
	d := l.(*loopDatagram)
	d.handler = nothing{}
	data, from, now := []byte{0x40, 0, 0, 0}, netip.MustParseAddrPort("192.0.2.1:5000"), time.Now()
	on.Do(func() {
		if n := testing.AllocsPerRun(100, func() { d.Receive(data, from, netip.Addr{}, now) }); n != 0 {
			t.Errorf("%v allocations for a datagram, want none", n)
		}
	})
}
