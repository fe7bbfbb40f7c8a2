package turnsrv

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/pion/logging"
	"github.com/pion/turn/v4"
)

// testConfig returns a configuration for loopback that permits loopback peers.
func testConfig(t testing.TB) Config {
	t.Helper()
	return Config{
		Realm:         turntest.TestRealm,
		Authenticator: credential.Verifier{Secrets: []credential.Secret{credential.NewSecret([]byte(turntest.TestSecret))}},
		Relay:         turntest.TestRelay(t, relay.Config{}),
		Workers:       testWorkers(t),
	}
}

// testServer is a server on loopback with a socket of each kind.
type testServer struct {
	*Server
	udp, tcp, tls netip.AddrPort
	plain         *turn.Server // replaces Server when the test is its own control: see TestRowsFailOnPlainPion
}

func (s *testServer) Close() error {
	if s.plain != nil {
		return s.plain.Close()
	}
	return s.Server.Close()
}

func (s *testServer) Allocations() int {
	if s.plain != nil {
		return s.plain.AllocationCount()
	}
	return s.Server.Allocations()
}

func startServer(t testing.TB, config Config) *testServer {
	t.Helper()
	return startServerOn(t, config, turntest.Loopback)
}

// startServerOn is startServer for another loopback address.
func startServerOn(t testing.TB, config Config, addr netip.Addr) *testServer {
	t.Helper()
	listen := netip.AddrPortFrom(addr, 0).String()
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	datagrams, err := net.ListenPacket("udp", listen)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	secure := NewTLSListener(inner, &tls.Config{Certificates: []tls.Certificate{turntest.TestCertificate(t)}})
	s := &testServer{Server: server, udp: udp.AddrPortOf(datagrams.LocalAddr()), tcp: udp.AddrPortOf(plain.Addr()),
		tls: udp.AddrPortOf(inner.Addr())}
	if onPlainPion() {
		s.plain = plainPion(t, config, listenLoopback, []net.PacketConn{datagrams}, []net.Listener{plain, secure})
		return s
	}
	var serving sync.WaitGroup
	for _, serve := range []func() error{
		func() error { return server.ServePacket(datagrams) },
		func() error { return server.ServeStream(plain) },
		func() error { return server.ServeStream(secure) },
	} {
		serving.Go(func() {
			if err := serve(); err != ErrServerClosed {
				t.Errorf("Serve = %v, want ErrServerClosed", err)
			}
		})
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		serving.Wait()
		if n := server.Allocations(); n != 0 {
			t.Errorf("%d allocations are left after Close", n)
		}
		if n := server.Counters().Streams; n != 0 {
			t.Errorf("%d connections are left after Close", n)
		}
	})
	return s
}

// pionClient connects pion's client over transport.
func (s *testServer) pionClient(t testing.TB, transport event.Transport, c credential.Credential) *turn.Client {
	t.Helper()
	var conn net.PacketConn
	var err error
	to := s.udp
	switch transport {
	case event.UDP:
		conn, err = net.ListenPacket("udp4", "127.0.0.1:0")
	case event.TCP:
		to = s.tcp
		var stream net.Conn
		if stream, err = net.Dial("tcp4", to.String()); err == nil {
			conn = turn.NewSTUNConn(stream)
		}
	case event.TLS:
		to = s.tls
		var stream net.Conn
		if stream, err = tls.Dial("tcp4", to.String(), &tls.Config{InsecureSkipVerify: true}); err == nil {
			conn = turn.NewSTUNConn(stream)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: to.String(), TURNServerAddr: to.String(), Conn: conn,
		Username: c.Username, Password: c.Password, Realm: turntest.TestRealm, LoggerFactory: logging.NewDefaultLoggerFactory(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		_ = conn.Close()
	})
	return client
}

// echo is a peer that sends everything back.
func echo(t testing.TB) net.Addr {
	t.Helper()
	return echoOn(t, turntest.Loopback)
}

// echoOn is echo for another loopback address.
func echoOn(t testing.TB, addr netip.Addr) net.Addr {
	t.Helper()
	conn, err := net.ListenPacket("udp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buf[:n], from)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		wait.Wait()
	})
	return conn.LocalAddr()
}

func TestRelayThroughPionsClient(t *testing.T) {
	for _, transport := range []event.Transport{event.UDP, event.TCP, event.TLS} {
		t.Run(transport.String(), func(t *testing.T) {
			server := startServer(t, testConfig(t))
			client := server.pionClient(t, transport, turntest.TestCredential())
			relayed, err := client.Allocate()
			if err != nil {
				t.Fatal(err)
			}
			far := echo(t)
			buf := make([]byte, 1600)
			// pion's client begins with Send indications and then switches to a channel. Its framing of streams waits for more data
			// after ChannelData of up to four bytes, so the messages here are longer.
			for i := range 20 {
				sent := []byte("hello, world")[:5+i%5]
				if _, err := relayed.WriteTo(sent, far); err != nil {
					t.Fatal(err)
				}
				if err := relayed.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
					t.Fatal(err)
				}
				n, from, err := relayed.ReadFrom(buf)
				if err != nil {
					t.Fatal(err)
				}
				if string(buf[:n]) != string(sent) || from.String() != far.String() {
					t.Fatalf("got %q from %v, want %q from %v", buf[:n], from, sent, far)
				}
			}
			if n := server.Allocations(); n != 1 {
				t.Errorf("%d allocations, want 1", n)
			}
			if err := relayed.Close(); err != nil {
				t.Fatal(err)
			}
			if err := server.Close(); err != nil { // nothing is counted after Close
				t.Fatal(err)
			}
			if got := server.Counters(); got.ToPeer.Packets != 20 || got.ToClient.Packets != 20 || got.AllocationsMade != 1 {
				t.Errorf("counters: %+v", got)
			}
		})
	}
}

func TestPionsClientBinding(t *testing.T) {
	server := startServer(t, testConfig(t))
	client := server.pionClient(t, event.UDP, turntest.TestCredential())
	mapped, err := client.SendBindingRequest()
	if err != nil {
		t.Fatal(err)
	}
	if addr := udp.AddrPortOf(mapped); addr.Addr() != turntest.Loopback || addr.Port() == 0 {
		t.Errorf("mapped address %v", mapped)
	}
}
