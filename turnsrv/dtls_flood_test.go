package turnsrv

import (
	"bytes"
	"crypto/tls"
	"net/netip"
	"testing"
	"time"
)

// TestDTLSHelloDrawsLittle wants a packet from an address that may be anybody's to draw less than itself, and nothing at
// all where it is no first ClientHello.
func TestDTLSHelloDrawsLittle(t *testing.T) {
	server, addr := startDTLS(t, testConfig(t), "127.0.0.1", true)
	hello := firstHello(t)
	c := dial(t, "udp", addr)
	c.write(hello)
	answer := c.read()
	r, rest, ok := cutRecord(answer)
	if !ok || len(rest) > 0 || r.handshakeType() != dtlsHelloVerifyRequest || len(answer) >= len(hello) {
		t.Errorf("%d bytes drew %x", len(hello), answer)
	}
	change := func(at int, value byte) []byte {
		b := bytes.Clone(hello)
		b[at] = value
		return b
	}
	junk := map[string][]byte{
		"one byte": {22}, "a header": hello[:13], "half of it": hello[:len(hello)/2], "application data": change(0, 23),
		"alert": change(0, 21), "epoch 1": change(4, 1), "ServerHello": change(13, 2), "second ClientHello": change(18, 1),
		"fragment": change(21, 1), "record too long": change(11, 0xFF),
	}
	for name, b := range junk {
		c := dial(t, "udp", addr)
		c.write(b)
		t.Run(name, func(*testing.T) { c.silent() })
	}
	if got := server.Counters().Dropped[DropDTLS]; got != uint64(len(junk)) {
		t.Errorf("%d packets dropped, want %d", got, len(junk))
	}
	// What an unproven client may send is bounded, and is ClientHellos only.
	c.write(change(0, 23))
	c.silent()
	for range 2 * maxPlain / len(hello) {
		c.write(hello)
	}
	dial(t, "udp", addr).silent() // the server has seen all of it
	if got := server.Counters().Dropped[DropDTLS]; got < uint64(len(junk)+1+maxPlain/len(hello)) {
		t.Errorf("%d packets dropped", got)
	}
}

// idleListener is a DTLS listener whose sessions nobody makes a handshake of. begin has a client at addr send its first
// ClientHello and returns the client's session, or nil.
func idleListener(t *testing.T) (l *dtlsListener, begin func(addr netip.AddrPort) *dtlsSession) {
	t.Helper()
	conn := clientSocket(t)
	socket, err := newPacketSocket(conn)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{testCertificate(t)}}
	l = newDTLSListener(&sharedSocket{packetSocket: socket}, conn.LocalAddr(), config, dtlsLogger{}, &counters{})
	hello := firstHello(t)
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
		tuple := FiveTuple{Client: addr, Transport: DTLS}
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

// serverHello is what a session sends first when the cookie has come back.
var serverHello = []byte{22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 1, 0, 12, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}

// TestDTLSFlood fills the list of handshakes from one address each, as a spoofer would, and wants a real client to get in.
func TestDTLSFlood(t *testing.T) {
	l, begin := idleListener(t)
	first := begin(at(0, 1))
	for i := range 3 * maxHandshakes {
		begin(at(1, i))
	}
	if len(l.sessions) != maxHandshakes || len(l.unproven) != maxHandshakes || l.sessions[first.tuple] != nil {
		t.Fatalf("%d sessions, %d handshakes, want %d and the newest", len(l.sessions), len(l.unproven), maxHandshakes)
	}
	// Whoever has shown that the address is real has his place from then on.
	real := begin(at(0, 2))
	real.sends(serverHello)
	for i := range 3 * maxHandshakes {
		begin(at(1, i))
	}
	if l.sessions[real.tuple] != real || real.state != dtlsProven {
		t.Error("strangers have displaced the handshake of a real client")
	}
	// A session that was given up while it was sending takes no place.
	late := begin(at(0, 3))
	_ = late.Close()
	late.sends(serverHello)
	if l.proven.Len() != 1 {
		t.Errorf("%d handshakes of real clients, want 1", l.proven.Len())
	}
}

// TestDTLSStalledHandshakes has one network leave handshakes where the server waits for a proven client, and wants others to
// have all the time of a handshake.
func TestDTLSStalledHandshakes(t *testing.T) {
	l, begin := idleListener(t)
	stall := func() *dtlsSession {
		s := begin(netip.MustParseAddrPort("192.0.2.1:4000"))
		if s == nil {
			t.Fatal("a stranger is refused, where he is to be displaced")
		}
		s.sends(serverHello)
		s.tuple.Client = netip.AddrPort{} // leave the 5-tuple free for the next one
		delete(l.sessions, FiveTuple{Client: netip.MustParseAddrPort("192.0.2.1:4000"), Transport: DTLS})
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
	l := &dtlsListener{}
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
	// One network has a quarter of that, whatever it asks for, and the others have the rest.
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
