package link

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// idleListener is a DTLS listener whose sessions perform no handshake. begin sends the first ClientHello of a client at addr
// and returns its session, or nil.
func idleListener(t *testing.T) (l *DTLSListener, begin func(addr netip.AddrPort) *dtlsSession) {
	t.Helper()
	conn := turntest.ClientSocket(t)
	config := &tls.Config{Certificates: []tls.Certificate{turntest.TestCertificate(t)}}
	l = newDTLSListener(conn.LocalAddr(), config, slog.New(slog.DiscardHandler), nil,
		&count.Counters{})
	l.socket = &portableDatagram{socket: udp.NewPacketSocket(conn)}
	hello := turntest.FirstHello(t)
	t.Cleanup(func() {
		for _, s := range l.sessions {
			_ = s.Close()
			_ = s.Close()
		}
		if len(l.sessions) != 0 || len(l.unproven) != 0 || l.proven.Len() != 0 {
			t.Errorf("%d sessions, %d unproven and %d proven handshakes are left", len(l.sessions), len(l.unproven), l.proven.Len())
		}
	})
	return l, func(addr netip.AddrPort) *dtlsSession {
		tuple := event.FiveTuple{Client: addr, Transport: event.DTLS}
		l.second-- // a new second for maxHellos
		l.take(hello, tuple)
		select {
		case <-l.accepted:
		default:
		}
		return l.sessions[tuple]
	}
}

// at returns address number i of the network 10.network.0.0/16, each in a /24 of its own.
func at(network, i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(network), byte(i), 1}), uint16(1024+i))
}

// serverHello is the first message that a session sends after the cookie came back.
var serverHello = []byte{22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 1, 0, 12, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}

// TestDTLSFlood fills the handshakes from a different address each, as a spoofer would. A genuine client must still succeed.
func TestDTLSFlood(t *testing.T) {
	l, begin := idleListener(t)
	first := begin(at(0, 1))
	for i := range 3 * maxHandshakes {
		begin(at(1, i))
	}
	if len(l.sessions) != maxHandshakes || len(l.unproven) != maxHandshakes || l.sessions[first.tuple] != nil {
		t.Fatalf("%d sessions, %d handshakes, want %d and the newest", len(l.sessions), len(l.unproven), maxHandshakes)
	}
	// A client with a proven address keeps its place from then on.
	real := begin(at(0, 2))
	real.sends(serverHello)
	for i := range 3 * maxHandshakes {
		begin(at(1, i))
	}
	if l.sessions[real.tuple] != real || real.state != dtlsProven {
		t.Error("strangers have displaced the handshake of a real client")
	}
	// A session that was ended while it was sending takes no place.
	late := begin(at(0, 3))
	_ = late.Close()
	late.sends(serverHello)
	if l.proven.Len() != 1 {
		t.Errorf("%d handshakes of real clients, want 1", l.proven.Len())
	}
}

// TestDTLSStalledHandshakes leaves handshakes from one network incomplete after the address was proven. Other clients must have
// the full time of a handshake.
func TestDTLSStalledHandshakes(t *testing.T) {
	l, begin := idleListener(t)
	stall := func() *dtlsSession {
		s := begin(netip.MustParseAddrPort("192.0.2.1:4000"))
		if s == nil {
			t.Fatal("a stranger is refused and not displaced")
		}
		s.sends(serverHello)
		s.tuple.Client = netip.AddrPort{} // leave the 5-tuple free for the next one
		delete(l.sessions, event.FiveTuple{Client: netip.MustParseAddrPort("192.0.2.1:4000"), Transport: event.DTLS})
		return s
	}
	stalled := []*dtlsSession{stall()}
	t.Cleanup(func() {
		for _, s := range stalled {
			_ = s.Close()
		}
	})
	for range maxHandshakes/2 - 1 {
		stalled = append(stalled, stall())
	}
	var honest []*dtlsSession
	for i := range maxHandshakes / 4 {
		s := begin(at(2, i))
		s.sends(serverHello)
		honest = append(honest, s)
	}
	if stalled[0].ended {
		t.Fatal("the stranger was displaced although there was room")
	}
	for range maxHandshakes * 3 / 8 {
		stalled = append(stalled, stall())
		if stalled[len(stalled)-1].ended {
			t.Fatal("the newest handshake was displaced, and not the oldest")
		}
	}
	if !stalled[0].ended || l.proven.Len() != maxHandshakes {
		t.Errorf("%d handshakes, the oldest one displaced: %v", l.proven.Len(), stalled[0].ended)
	}
	for _, s := range honest {
		if s.ended || l.sessions[s.tuple] != s {
			t.Fatal("the handshake of another network was displaced")
		}
	}
}

func TestDTLSHelloRate(t *testing.T) {
	l := &DTLSListener{}
	now := time.Unix(1758650868, 0)
	begun := 0
	for i := range 3 * maxHellos {
		if l.mayBeginLocked(at(0, i).Addr(), now) {
			begun++
		}
	}
	after := at(0, 0).Addr()
	if begun != maxHellos || l.mayBeginLocked(after, now.Add(time.Second-1)) || !l.mayBeginLocked(after, now.Add(time.Second)) {
		t.Errorf("%d handshakes in one second, want %d, and more in the next", begun, maxHellos)
	}
	// One network gets a quarter of the limit at most, and the others get the rest.
	now, begun = now.Add(time.Minute), 0
	for i := range 10 * maxHellos {
		if l.mayBeginLocked(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), now) {
			begun++
		}
	}
	if begun != maxNetworkHellos || !l.mayBeginLocked(at(3, 0).Addr(), now) {
		t.Errorf("one network begins %d handshakes at once, want %d, and others beside them", begun, maxNetworkHellos)
	}
}

// sink is a socket that only reports that something was sent.
type sink struct {
	udp.PacketSocket
	sent chan struct{}
}

func (s sink) WritePacket([]byte, netip.AddrPort, netip.Addr) error { s.sent <- struct{}{}; return nil }

// BenchmarkDTLSFirstHello measures the cost of a packet that anybody can send: a new handshake that is answered with a cookie
// and displaces another one.
func BenchmarkDTLSFirstHello(b *testing.B) {
	socket := sink{sent: make(chan struct{}, 2*maxHandshakes)}
	config := &tls.Config{Certificates: []tls.Certificate{turntest.TestCertificate(b)}}
	l := newDTLSListener(&net.UDPAddr{}, config, slog.New(slog.DiscardHandler), nil, new(count.Counters))
	l.socket = &portableDatagram{socket: socket}
	var serving sync.WaitGroup
	streams := NewStreams(1000, nil, l.counters)
	serving.Go(func() { _ = streams.Serve(l, deaf{}, func(error) {}) })
	b.Cleanup(func() {
		streams.Close()
		serving.Wait()
	})
	hello := turntest.FirstHello(b)
	b.ReportAllocs()
	for n := uint32(0); b.Loop(); n++ {
		l.hellos = 0
		// Each from a network of its own, like spoofed ones, because one network can begin few handshakes per second.
		from := netip.AddrFrom4([4]byte{byte(n >> 16), byte(n >> 8), byte(n), 1})
		l.take(hello, event.FiveTuple{Client: netip.AddrPortFrom(from, uint16(n>>24)+1), Transport: event.DTLS})
		<-socket.sent
	}
}

// deaf is a handler that does nothing.
type deaf struct{}

func (deaf) Handle([]byte, session.Client, time.Time) {}
func (deaf) Gone(session.Client, time.Time)           {}
func (deaf) Tick(time.Time)                           {}
func (deaf) End(time.Time)                            {}
