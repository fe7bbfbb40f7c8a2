package shared

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/framework/certs"
)

// pipePort returns a port that serves connections without a socket, and has an endpoint of each kind.
func pipePort(t *testing.T, all ...Protocol) (p *Port, dial func() net.Conn) {
	t.Helper()
	p = New(Config{}, slog.New(slog.DiscardHandler))
	store := newStore(t, "mail.example.org")
	for _, protocol := range all {
		l := p.Listen(Member{Protocol: protocol, Certificates: func() *certs.Store { return store }, TLS: func() *tls.Config { return store.Config() }})
		go func() {
			for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
				fmt.Fprintln(conn.(*Conn).Secured(), protocol)
			}
		}()
		t.Cleanup(func() { l.Close() })
	}
	return p, func() net.Conn {
		client, server := net.Pipe()
		go p.serve(server)
		return client
	}
}

// TestSlowHello checks that a client that never ends its hello is closed in time, however slowly it goes on.
func TestSlowHello(t *testing.T) {
	hello := helloBytes(t, &tls.Config{ServerName: "mail.example.org"})
	for name, interval := range map[string]time.Duration{"nothing": 0, "a byte a second": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, dial := pipePort(t, IMAP)
				client := dial()
				begun := time.Now()
				for i := 0; interval > 0; i++ {
					if _, err := client.Write(hello[i : i+1]); err != nil {
						break
					}
					time.Sleep(interval)
				}
				if n, err := client.Read(make([]byte, 1)); err == nil {
					t.Errorf("%d bytes were sent", n)
				}
				if took := time.Since(begun); took < helloTimeout || took > helloTimeout+2*time.Second {
					t.Errorf("closed after %v", took)
				}
				synctest.Wait()
				if p.counters.refused[silent].Load() != 1 || p.pending.count() != 0 {
					t.Error("the client is not counted, or still is")
				}
			})
		})
	}
}

// TestSilence checks how long a client without ALPN may be silent: before it is given to IMAP, and where there is none.
func TestSilence(t *testing.T) {
	for _, tt := range []struct {
		name      string
		roundTrip time.Duration
		kinds     []Protocol
		first     time.Duration // after the handshake; 0 for nothing
		want      string
		after     time.Duration // the handshake
	}{
		{"IMAP on a fast network", 0, []Protocol{TURN, IMAP}, 0, "imap", minSilence},
		{"IMAP on a slow network", 300 * time.Millisecond, []Protocol{TURN, IMAP}, 0, "imap", 1200 * time.Millisecond},
		{"IMAP on a very slow network", 2 * time.Second, []Protocol{TURN, IMAP}, 0, "imap", maxSilence},
		{"TURN that takes its time", 300 * time.Millisecond, []Protocol{TURN, IMAP}, time.Second, "turn", time.Second},
		{"TURN or HTTP that says nothing", 0, []Protocol{TURN, HTTP}, 0, "", helloTimeout},
		{"HTTP late, where nobody waits", 0, []Protocol{TURN, HTTP}, 5 * time.Second, "http", 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, dial := pipePort(t, tt.kinds...)
				raw := &late{Conn: dial(), delay: tt.roundTrip}
				client := tls.Client(raw, &tls.Config{ServerName: "mail.example.org", InsecureSkipVerify: true})
				if err := client.Handshake(); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				if tt.first > 0 {
					raw.delay = 0
					time.Sleep(tt.first)
					io.WriteString(client, map[string]string{"turn": binding, "http": "GET / HTTP/1.1\r\n"}[tt.want])
				}
				b := make([]byte, 10)
				n, err := client.Read(b)
				if got := string(b[:n]); got != tt.want+"\n" && (tt.want != "" || err == nil) {
					t.Errorf("got %q, %v", got, err)
				}
				if took := time.Since(begun); took.Round(time.Millisecond) != tt.after {
					t.Errorf("after %v, want %v", took, tt.after)
				}
				raw.Close()
			})
		})
	}
}

// late is a connection that delays what is written, as a client far away does.
type late struct {
	net.Conn
	delay time.Duration
}

func (l *late) Write(b []byte) (int, error) {
	time.Sleep(l.delay)
	return l.Conn.Write(b)
}

// TestPending checks the limits of connections that have not been told apart.
func TestPending(t *testing.T) {
	var p pending
	open := func(addr string, unlimited bool) (net.Conn, bool) {
		conn, _ := net.Pipe()
		return conn, p.enter(conn, netip.MustParseAddr(addr), unlimited)
	}
	closed := func(conn net.Conn) bool {
		conn.SetDeadline(time.Now())
		_, err := conn.Read(make([]byte, 1))
		return err == io.ErrClosedPipe
	}
	for range maxPendingHost {
		if _, ok := open("192.0.2.1", false); !ok {
			t.Fatal("refused too early")
		}
	}
	if _, ok := open("192.0.2.1", false); ok {
		t.Error("one address has too many")
	}
	proxied, ok := open("192.0.2.1", true)
	if !ok || p.move(proxied, netip.MustParseAddr("192.0.2.1")) {
		t.Error("a proxy must not be limited, and its client must be")
	}
	alone, _ := open("203.0.113.1", false)
	for i := p.count(); i < maxPending; i++ {
		if _, ok := open(fmt.Sprintf("198.51.100.%d", i%200), false); !ok {
			t.Fatal("refused before there were too many")
		}
	}
	for range 2 * maxPending / 3 {
		open(fmt.Sprintf("2001:db8::%x:0:0:0:1", p.count()%7), true)
	}
	if p.count() != maxPending || closed(alone) {
		t.Errorf("%d are pending; a network with one has lost it: %v", p.count(), closed(alone))
	}
	p.closeAll()
	if !closed(alone) {
		t.Error("a connection is open after the end")
	}
	for conn := range p.conns {
		p.leave(conn)
		p.leave(conn)
	}
	if len(p.hosts) != 0 || p.crowd.Len() != 0 {
		t.Errorf("%d addresses and %d connections are left", len(p.hosts), p.crowd.Len())
	}
	if _, ok := open("203.0.113.1", false); ok {
		t.Error("accepted after the end")
	}
}

// TestLargeHellos checks the limit of connections that have sent much before they are told apart.
func TestLargeHellos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := pipePort(t, IMAP)
		half := append([]byte("\x16\x03\x01\x40\x00\x01\x00\x3f\xfc"), make([]byte, largeHello)...)
		var clients []net.Conn
		dial := func(addr string, sends []byte) net.Conn {
			client, server := net.Pipe()
			clients = append(clients, client)
			go p.serve(&from{server, netip.MustParseAddr(addr)})
			if n, err := client.Write(sends); err != nil {
				t.Fatalf("%s: %d of %d bytes: %v", addr, n, len(sends), err)
			}
			return client
		}
		open := func(client net.Conn) bool {
			_, err := client.Write([]byte{0})
			return err == nil
		}
		small, alone := dial("192.0.2.9", half[:largeHello/2]), dial("203.0.113.1", half)
		first := dial("192.0.2.1", half)
		for i := 2; i <= maxLarge; i++ {
			dial(fmt.Sprintf("192.0.2.%d", 1+i%8), half)
		}
		synctest.Wait()
		if n := p.pending.large.Len(); n != maxLarge || open(first) {
			t.Errorf("%d are large; the oldest of the largest network is open: %v", n, open(first))
		}
		if !open(alone) || !open(small) {
			t.Error("one of another network has been closed, or one that is not large")
		}
		for _, client := range clients {
			client.Close()
		}
		synctest.Wait()
		if p.pending.count() != 0 || p.pending.large.Len() != 0 {
			t.Error("something is left")
		}
	})
}

// from is a connection from an address.
type from struct {
	net.Conn
	addr netip.Addr
}

func (f *from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.addr, 4711))
}

// TestHelloMemory checks that a connection takes no memory for what it has only announced.
func TestHelloMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const connections = 200
		used := func() int64 {
			var stats runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&stats)
			return int64(stats.HeapAlloc)
		}
		var clients []net.Conn
		before := used()
		for range connections {
			client, server := net.Pipe()
			clients = append(clients, client)
			go readHello(server, func() {})
			io.WriteString(client, "\x16\x03\x01\x40\x00")
		}
		synctest.Wait()
		if each := (used() - before) / connections; each > 8<<10 {
			t.Errorf("each takes %d bytes", each)
		}
		for _, client := range clients {
			client.Close()
		}
	})
}

// TestPassing checks the limits of connections to the fallback, and that those are ended that are quiet.
func TestPassing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p passing
		enterFrom := func(addr string) *passed {
			conn, _ := net.Pipe()
			client := netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)
			return p.enter(&Conn{Conn: conn, origin: origin.Origin{Client: client}}, func() {}, 8)
		}
		enter := func() *passed { return enterFrom("2001:db8:0:1::1") }
		quiet, busy := enter(), enter()
		if quiet == nil || busy == nil || enter() != nil {
			t.Fatal("one address may have a quarter")
		}
		neighbours := []*passed{enterFrom("2001:db8:0:2::1"), enterFrom("2001:db8:0:3::1"), enterFrom("2001:db8:0:4::1")}
		if neighbours[0] == nil || neighbours[1] == nil || neighbours[2] != nil {
			t.Fatal("one network may have half")
		}
		stranger := enterFrom("192.0.2.1")
		if stranger == nil {
			t.Fatal("another network may have some")
		}
		p.leave(neighbours[0])
		p.leave(neighbours[1])
		p.leave(stranger)
		stopped := make(chan struct{})
		go func() {
			for {
				select {
				case <-stopped:
					return
				case <-time.After(500 * time.Millisecond):
					busy.active.Store(time.Now().UnixNano())
				}
			}
		}()
		ended := func(e *passed) bool { return e.conn.SetDeadline(time.Time{}) != nil }
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		finished := make(chan struct{})
		go func() {
			p.finish(ctx)
			close(finished)
		}()
		time.Sleep(2 * time.Second)
		if !ended(quiet) || ended(busy) {
			t.Errorf("quiet ended %v, busy ended %v", ended(quiet), ended(busy))
		}
		if enter() != nil {
			t.Error("accepted after the end")
		}
		<-finished
		close(stopped)
		if !ended(busy) {
			t.Error("the busy one goes on")
		}
		p.leave(quiet)
		p.leave(busy)
		if p.count() != 0 || len(p.from) != 0 {
			t.Error("something is left")
		}
	})
}

// TestDisplacedOnDelivery checks that a crowded port closes no connection that an endpoint has, and gives the endpoint none that it has
// closed.
func TestDisplacedOnDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{}, slog.New(slog.DiscardHandler))
		l := p.Listen(Member{Protocol: IMAP}).(*member)
		deliver := func() net.Conn {
			_, socket := net.Pipe()
			p.pending.enter(socket, netip.MustParseAddr("192.0.2.1"), false)
			go l.deliver(&Conn{Conn: socket}, helloTimeout)
			synctest.Wait()
			return socket
		}
		displaced := deliver()
		p.pending.leave(displaced)
		displaced.Close()
		kept := deliver()
		conn, err := l.Accept()
		if err != nil || conn.(*Conn).Conn != kept {
			t.Errorf("accepted %v, %v, want the one that is open", conn, err)
		}
		if p.pending.closeAll(); conn.SetDeadline(time.Time{}) != nil {
			t.Error("what the endpoint has is closed")
		}
	})
}
