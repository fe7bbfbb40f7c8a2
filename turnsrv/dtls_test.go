package turnsrv

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/link"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"github.com/pion/dtls/v3"
)

// startDTLS serves DTLS on host, and plain UDP too if plain is true.
func startDTLS(t testing.TB, config Config, host string, plain bool) (*Server, netip.AddrPort) {
	t.Helper()
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	if onPlainPion() {
		addr := conn.LocalAddr().(*net.UDPAddr)
		_ = conn.Close()
		listener, err := dtls.ListenWithOptions("udp", addr, dtls.WithCertificates(turntest.TestCertificate(t)))
		if err != nil {
			t.Fatal(err)
		}
		plain := plainPion(t, config, listenLoopback, nil, []net.Listener{listener})
		t.Cleanup(func() { _ = plain.Close() })
		return server, udp.AddrPortOf(addr)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		config := &tls.Config{Certificates: []tls.Certificate{turntest.TestCertificate(t)}, NextProtos: []string{"stun.turn"}}
		if err := server.ServeDTLS(conn, config, plain); err != ErrServerClosed {
			t.Errorf("ServeDTLS = %v, want ErrServerClosed", err)
		}
	})
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		serving.Wait()
		if n := server.Allocations(); n != 0 {
			t.Errorf("%d allocations are left after Close", n)
		}
		if n := server.Counters().Streams; n != 0 {
			t.Errorf("%d associations are left after Close", n)
		}
	})
	return server, udp.AddrPortOf(conn.LocalAddr())
}

// handshake makes an association over socket.
func handshake(t testing.TB, socket net.PacketConn, to netip.AddrPort, options ...dtls.ClientOption) (*dtls.Conn, error) {
	t.Helper()
	conn, err := dtls.ClientWithOptions(socket, net.UDPAddrFromAddrPort(to), append(options, dtls.WithInsecureSkipVerify(true))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return conn, conn.HandshakeContext(ctx)
}

// dialDTLS connects over DTLS.
func dialDTLS(t testing.TB, to netip.AddrPort, options ...dtls.ClientOption) *rawClient {
	t.Helper()
	conn, err := handshake(t, turntest.ClientSocket(t), to, options...)
	if err != nil {
		t.Fatal(err)
	}
	return newRawClient(t, conn, false)
}

func TestT11DTLSIsUnpadded(t *testing.T) {
	config := testConfig(t)
	var mu sync.Mutex
	var tuple event.FiveTuple
	config.OnEvent = func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		tuple = e.Tuple
	}
	server, addr := startDTLS(t, config, "127.0.0.1", true)
	c := dialDTLS(t, addr)
	c.allocate()
	mu.Lock()
	if want := (event.FiveTuple{Client: udp.AddrPortOf(c.conn.LocalAddr()), Server: addr, Transport: event.DTLS}); tuple != want {
		t.Errorf("the 5-tuple is %+v, want %+v", tuple, want)
	}
	mu.Unlock()
	peer := udp.AddrPortOf(echo(t))
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer)), 0)
	// A message is a datagram, and ChannelData has no padding in either direction.
	for _, data := range []string{"", "1", "12", "123", "1234", "12345", strings.Repeat("x", 1200)} {
		message := turntest.ChannelData(0x4000, data)[:stun.ChannelDataHeaderLen+len(data)]
		c.write(message)
		if got := c.read(); !bytes.Equal(got, message) {
			t.Errorf("%q came back for %q", got, message)
		}
		c.write(turntest.ChannelData(0x4000, data)) // padding is accepted
		if got := c.read(); !bytes.Equal(got, message) {
			t.Errorf("%q came back for %q with padding", got, message)
		}
	}
	c.write(c.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(peer), turntest.Attr(stun.AttrData, 'x')))
	if got := c.read(); !bytes.Equal(got, turntest.ChannelData(0x4000, "x")[:5]) {
		t.Errorf("%q came back for an indication", got)
	}
	// A message that exceeds the buffer is dropped whole. The next message is not.
	c.write(make([]byte, link.KeepBuffer+1))
	c.silent()
	// The same port also serves clients that do not use DTLS.
	plain := dial(t, "udp", addr)
	plain.allocate()
	c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
	if n := server.Allocations(); n != 1 {
		t.Errorf("%d allocations, want that of the plain client", n)
	}
}

func TestDTLSEndsWithItsClient(t *testing.T) {
	ended := make(chan event.Event, 8)
	config := testConfig(t)
	config.OnEvent = func(e event.Event) {
		if e.Kind == event.AllocationEnded {
			ended <- e
		}
	}
	_, addr := startDTLS(t, config, "127.0.0.1", true)
	c := dialDTLS(t, addr)
	c.allocate()
	if err := c.conn.Close(); err != nil { // close_notify
		t.Fatal(err)
	}
	select {
	case e := <-ended:
		if e.End != event.EndedConnection {
			t.Errorf("the allocation ended because %s", e.End)
		}
	case <-time.After(5 * time.Second):
		t.Error("the allocation lives on")
	}
}

func TestDTLSOnly(t *testing.T) {
	server, addr := startDTLS(t, testConfig(t), "127.0.0.1", false)
	plain := dial(t, "udp", addr)
	plain.write(plain.message(stun.MethodBinding, stun.ClassRequest))
	dialDTLS(t, addr).allocate() // after it on the same socket
	if b, err := plain.tryRead(10 * time.Millisecond); err == nil {
		t.Errorf("a plain request drew %x", b)
	}
	if got := server.Counters().Dropped[event.DropUnexpected]; got != 1 {
		t.Errorf("%d unexpected packets, want 1", got)
	}
}

func TestDTLSProtocols(t *testing.T) {
	_, addr := startDTLS(t, testConfig(t), "127.0.0.1", true)
	for _, test := range []struct {
		offered []string
		ok      bool
	}{{nil, true}, {[]string{"stun.turn"}, true}, {[]string{"h2", "stun.turn"}, true}, {[]string{"h2"}, false}} {
		var options []dtls.ClientOption
		if test.offered != nil {
			options = append(options, dtls.WithSupportedProtocols(test.offered...))
		}
		conn, err := handshake(t, turntest.ClientSocket(t), addr, options...)
		if (err == nil) != test.ok {
			t.Errorf("ALPN %q: %v", test.offered, err)
		}
		_ = conn.Close()
	}
}

// T35 for DTLS: the handshake also comes from the address that the client sent to.
func TestDTLSAnswersFromTheAddressAsked(t *testing.T) {
	_, addr := startDTLS(t, testConfig(t), "", true)
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(host), addr.Port())
		connection, err := net.Dial("udp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := handshake(t, fixed{connection.(*net.UDPConn)}, to)
		if err != nil {
			t.Fatalf("handshake with %v: %v", to, err)
		}
		newRawClient(t, conn, false).allocate()
	}
}

// fixed is a connected socket as a net.PacketConn.
type fixed struct{ *net.UDPConn }

func (c fixed) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

// TestDTLSHandshakeThatNeverEnds checks that nothing remains of a client that sent a single packet after the timeout.
func TestDTLSHandshakeThatNeverEnds(t *testing.T) {
	hello, certificate := turntest.FirstHello(t), turntest.TestCertificate(t)
	synctest.Test(t, func(t *testing.T) {
		network := turntest.NewMemNet()
		config := testConfig(t)
		config.Relay = turntest.TestRelay(t, relay.Config{Listen: network.Listen})
		server, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		var ends [2]*turntest.MemConn
		for i := range ends {
			if ends[i], err = network.Bind(netip.AddrPortFrom(turntest.Loopback, 0)); err != nil {
				t.Fatal(err)
			}
		}
		var serving sync.WaitGroup
		serving.Go(func() {
			_ = server.ServeDTLS(ends[0], &tls.Config{Certificates: []tls.Certificate{certificate}}, true)
		})
		defer serving.Wait()
		defer server.Close()
		if _, err := ends[1].WriteToUDPAddrPort(hello, ends[0].Addr); err != nil {
			t.Fatal(err)
		}
		time.Sleep(link.HandshakeTimeout - time.Millisecond)
		if n := server.Counters().Streams; n != 1 {
			t.Errorf("%d associations before the end of the handshake's time, want 1", n)
		}
		if n := len(ends[1].In); n != 1 {
			t.Errorf("one packet drew %d", n)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := server.Counters().Streams; n != 0 {
			t.Errorf("%d associations are left", n)
		}
	})
}

// TestDTLSStrangersEndNothing sends packets that anybody could spoof, from the client's own address.
func TestDTLSStrangersEndNothing(t *testing.T) {
	_, addr := startDTLS(t, testConfig(t), "127.0.0.1", true)
	socket := turntest.ClientSocket(t)
	conn, err := handshake(t, socket, addr)
	if err != nil {
		t.Fatal(err)
	}
	c := newRawClient(t, conn, false)
	relayed := c.allocate()
	record := func(contentType byte, epoch uint16, fragment ...byte) []byte {
		b := []byte{contentType, 0xFE, 0xFD}
		b = binary.BigEndian.AppendUint16(b, epoch)
		b = append(b, 0, 0, 0, 0, 0xFF, 0xFF)
		b = binary.BigEndian.AppendUint16(b, uint16(len(fragment)))
		return append(b, fragment...)
	}
	finished := record(link.DTLSHandshake, 0, make([]byte, 50)...)
	for name, b := range map[string][]byte{
		"plain application data":   record(23, 0, 'x'),
		"after a handshake record": append(bytes.Clone(finished), record(23, 0, 'x')...),
		"plain alert":              record(21, 0, 2, 40),
		"plain close_notify":       record(21, 0, 1, 0),
		"unknown content":          record(60, 0, 'x'),
		"forged application data":  record(23, 1, make([]byte, 40)...),
		"forged alert":             record(21, 1, make([]byte, 40)...),
		"future epoch":             record(23, 2, make([]byte, 40)...),
		"plain Finished": record(link.DTLSHandshake, 0,
			append([]byte{20, 0, 0, 12, 0, 9, 0, 0, 0, 0, 0, 12}, make([]byte, 12)...)...),
		"ChangeCipherSpec":             record(link.DTLSChangeCipherSpec, 0, 1),
		"malformed ChangeCipherSpec":   record(link.DTLSChangeCipherSpec, 0, 2),
		"longer ChangeCipherSpec":      record(link.DTLSChangeCipherSpec, 0, 1, 1),
		"empty ChangeCipherSpec":       record(link.DTLSChangeCipherSpec, 0),
		"ChangeCipherSpec of epoch 1":  record(link.DTLSChangeCipherSpec, 1, 2),
		"of a length like encrypted":   record(link.DTLSChangeCipherSpec, 1, make([]byte, 40)...),
		"after application data":       append(record(23, 1, make([]byte, 40)...), record(link.DTLSChangeCipherSpec, 0, 2)...),
		"connection ID":                record(25, 1, make([]byte, 40)...),
		"heartbeat":                    record(24, 1, make([]byte, 40)...),
		"first ClientHello":            turntest.FirstHello(t),
		"half a record":                record(23, 1, make([]byte, 40)...)[:20],
		"handshake message without it": record(link.DTLSHandshake, 0),
	} {
		for range 3 {
			if _, err := socket.WriteToUDPAddrPort(b, addr); err != nil {
				t.Fatal(err)
			}
		}
		t.Run(name, func(t *testing.T) {
			if a := c.want(c.request(stun.MethodRefresh), 0); a.code != 0 {
				t.Errorf("%v is gone", relayed)
			}
		})
	}
}

// TestDTLSClientRestarts checks that a client that lost its state, but kept its port, gets a new session that replaces the old one.
func TestDTLSClientRestarts(t *testing.T) {
	server, addr := startDTLS(t, testConfig(t), "127.0.0.1", true)
	first := turntest.ClientSocket(t)
	conn, err := handshake(t, first, addr)
	if err != nil {
		t.Fatal(err)
	}
	newRawClient(t, conn, false).allocate()
	local := first.LocalAddr().(*net.UDPAddr)
	_ = first.Close() // without close_notify
	second, err := net.ListenUDP("udp4", local)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close() })
	if conn, err = handshake(t, second, addr); err != nil {
		t.Fatal(err)
	}
	c := newRawClient(t, conn, false)
	c.allocate()
	for deadline := time.Now().Add(5 * time.Second); server.Allocations() != 1 || server.Counters().Streams != 1; c.silent() {
		if time.Now().After(deadline) {
			t.Fatalf("%d allocations, %d associations, want the new ones only", server.Allocations(), server.Counters().Streams)
		}
	}
}

// lossy is a client's socket that loses the first encrypted datagram of the server, which contains its Finished.
type lossy struct {
	net.PacketConn
	lost bool
}

func (l *lossy) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := l.PacketConn.ReadFrom(b)
		if err == nil && !l.lost {
			for rest := b[:n]; ; {
				r, after, ok := link.CutRecord(rest)
				if !ok {
					break
				}
				l.lost = l.lost || r.Epoch > 0
				rest = after
			}
			if l.lost {
				continue
			}
		}
		return n, from, err
	}
}

// TestDTLSFinishedIsLost checks that a handshake completes although the server's last flight was lost after the server
// considered the handshake complete. The client repeats its own flight, RFC 6347 section 4.2.4.
func TestDTLSFinishedIsLost(t *testing.T) {
	_, addr := startDTLS(t, testConfig(t), "127.0.0.1", true)
	socket := &lossy{PacketConn: turntest.ClientSocket(t)}
	conn, err := handshake(t, socket, addr)
	if err != nil {
		t.Fatal(err)
	}
	if !socket.lost {
		t.Fatal("nothing was lost")
	}
	newRawClient(t, conn, false).allocate()
}

func BenchmarkDTLSHandshake(b *testing.B) {
	_, addr := startDTLS(b, testConfig(b), "127.0.0.1", true)
	b.ReportAllocs()
	for b.Loop() {
		conn, err := handshake(b, turntest.ClientSocket(b), addr)
		if err != nil {
			b.Fatal(err)
		}
		_ = conn.Close()
	}
}
