package turnsrv

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"github.com/pion/dtls/v3"
)

// succession is a row of servers, each of which takes over the sockets of the one before.
type succession struct {
	t       testing.TB
	files   []*os.File // the UDP sockets, and the TCP listener
	udp     netip.AddrPort
	tcp     netip.AddrPort
	dtls    *tls.Config               // for DTLS on the UDP sockets
	version int                       // of the state
	change  func(state []byte) []byte // on its way; nil if nothing does
	current *Server
	serving sync.WaitGroup
}

// newSuccession returns a succession with the given number of UDP sockets (SO_REUSEPORT), whose first server has been started.
func newSuccession(t testing.TB, sockets int, config Config) *succession {
	t.Helper()
	return newSuccessionAt(t, "127.0.0.1:0", sockets, config)
}

// newSuccessionAt is like newSuccession, with UDP sockets at another address.
func newSuccessionAt(t testing.TB, local string, sockets int, config Config) *succession {
	t.Helper()
	s := &succession{t: t, version: StateVersion, dtls: &tls.Config{Certificates: []tls.Certificate{turntest.TestCertificate(t)}}}
	control := func(_, _ string, c syscall.RawConn) (err error) {
		if controlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}); controlErr != nil {
			return controlErr
		}
		return err
	}
	for range sockets {
		conn, err := (&net.ListenConfig{Control: control}).ListenPacket(t.Context(), "udp", local)
		if err != nil {
			t.Fatal(err)
		}
		local = conn.LocalAddr().String()
		s.keep(conn.(*net.UDPConn))
	}
	s.udp = netip.MustParseAddrPort(local)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.tcp = udp.AddrPortOf(listener.Addr())
	s.keep(listener.(*net.TCPListener))
	s.current = s.serve(config)
	t.Cleanup(func() {
		if err := s.current.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		s.serving.Wait()
		for _, file := range s.files {
			_ = file.Close()
		}
	})
	return s
}

// keep keeps a duplicate of a socket, which it closes.
func (s *succession) keep(socket interface {
	File() (*os.File, error)
	Close() error
}) {
	s.t.Helper()
	file, err := socket.File()
	if err != nil {
		s.t.Fatal(err)
	}
	s.files = append(s.files, file)
	if err := socket.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// serve starts a server on the sockets.
func (s *succession) serve(config Config) *Server {
	s.t.Helper()
	server, err := New(config)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, file := range s.files {
		serve := func() error { return nil }
		if i < len(s.files)-1 {
			conn, err := net.FilePacketConn(file)
			if err != nil {
				s.t.Fatal(err)
			}
			serve = func() error { return server.ServeDTLS(conn, s.dtls, true) }
		} else {
			listener, err := net.FileListener(file)
			if err != nil {
				s.t.Fatal(err)
			}
			serve = func() error { return server.ServeStream(listener) }
		}
		s.serving.Go(func() {
			if err := serve(); err != ErrServerClosed {
				s.t.Errorf("Serve = %v, want ErrServerClosed", err)
			}
		})
	}
	return server
}

// handOver makes another server with config take over, and returns how long nothing was served.
func (s *succession) handOver(config Config) time.Duration {
	s.t.Helper()
	config.Successor = true
	return s.takeOver(s.serve(config))
}

// takeOver makes next take over.
func (s *succession) takeOver(next *Server) time.Duration {
	s.t.Helper()
	before := time.Now()
	suspended, err := s.current.Suspend(s.version)
	if err != nil {
		s.t.Fatal(err)
	}
	state, descriptors, err := suspended.State()
	if err != nil {
		s.t.Fatal(err)
	}
	if s.change != nil {
		state = s.change(state)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	if err := next.Restore(ctx, state, s.duplicates(descriptors)); err != nil {
		suspended.Resume()
		_ = next.Close()
		s.t.Fatal(err)
	}
	next.Begin()
	took := time.Since(before)
	if err := suspended.Release(); err != nil {
		s.t.Fatal(err)
	}
	if n := s.current.Allocations(); n != 0 {
		s.t.Errorf("the server before still has %d allocations", n)
	}
	s.current = next
	return took
}

// duplicates returns what another process would receive.
func (s *succession) duplicates(descriptors []int) []int {
	s.t.Helper()
	var received []int
	for _, fd := range descriptors {
		another, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		received = append(received, another)
	}
	return received
}

// stream sends numbered packets through an allocation to a peer that sends them back.
type stream struct {
	client           *rawClient
	channel          uint16
	sent, back       int
	longest          time.Duration // between two packets that came back
	missing, swapped int
}

const packetEvery = 4 * time.Millisecond

// last is the number of the last packet.
const last = 1 << 63

// run sends until stop is closed, and returns when all packets are back, or none has come for a while. The last one, which the kernel may
// relay, can overtake those that the server still has.
func (s *stream) run(stop <-chan struct{}) {
	var sending sync.WaitGroup
	sending.Go(func() {
		ticker := time.NewTicker(packetEvery)
		defer ticker.Stop()
		for n := uint64(0); n != last; {
			select {
			case <-stop:
				n = last
			case <-ticker.C:
				n++
				s.sent++
			}
			_, _ = s.client.conn.Write(turntest.ChannelData(s.channel, string(binary.BigEndian.AppendUint64(nil, n))))
		}
	})
	defer func() {
		sending.Wait()
		s.missing = s.sent - s.back
	}()
	before, next := time.Now(), uint64(1)
	for ended := false; !ended || s.back < s.sent; {
		b, err := s.client.tryRead(5 * time.Second)
		if err != nil || b == nil {
			return
		}
		s.longest, before = max(s.longest, time.Since(before)), time.Now()
		switch n := binary.BigEndian.Uint64(b[4:]); {
		case n == last:
			sending.Wait()
			ended = true
			continue
		case n < next:
			s.swapped++
		default:
			next = n + 1
		}
		s.back++
	}
}

// TestHandOverUnderTraffic hands a server over many times, to servers with fewer and more workers, while clients send over UDP and
// TCP and DTLS: no packet is lost, and what the server knows and counts remains. The DTLS clients make no second handshake.
func TestHandOverUnderTraffic(t *testing.T) {
	config := func(workers int) Config {
		c := testConfig(t)
		c.Workers = workers
		c.Quotas = limit.Quotas{MaxAllocationsPerUser: 9, MaxPPS: 10000}
		return c
	}
	s := newSuccession(t, 2, config(2))
	far := udp.AddrPortOf(echo(t))
	var streams []*stream
	user := turntest.TestCredential() // one for all, which share its quota: a second later, it would be another
	relayed := make(map[netip.AddrPort]bool)
	for i := range 9 {
		var c *rawClient
		switch {
		case i < 3:
			c = dial(t, "udp", s.udp)
		case i < 6:
			c = dial(t, "tcp", s.tcp)
		default:
			c = dialDTLS(t, s.udp, dtls.WithCipherSuites(dtlsSuites[i-6]))
		}
		c.use(user)
		relayed[c.allocate()] = true
		c.want(c.request(stun.MethodChannelBind, turntest.PeerAddr(far), turntest.Channel(0x4000)), 0)
		streams = append(streams, &stream{client: c, channel: 0x4000})
	}
	idle := dial(t, "tcp", s.tcp) // has no allocation
	idle.unsigned(stun.MethodBinding)
	idleDTLS := dialDTLS(t, s.udp)
	idleDTLS.unsigned(stun.MethodBinding)
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, one := range streams {
		running.Go(func() { one.run(stop) })
	}
	var slowest time.Duration
	for i := range 20 {
		before, err := s.current.Sessions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, s.handOver(config(1+i%3)))
		after, err := s.current.Sessions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if problem := compareSessions(before, after); problem != "" {
			t.Fatalf("handover %d: %s", i, problem)
		}
	}
	close(stop)
	running.Wait()
	var longest time.Duration
	for i, one := range streams {
		if one.missing > 0 || one.swapped > 0 || one.back != one.sent || one.sent == 0 {
			t.Errorf("client %d: %d of %d packets came back, %d are missing, %d were out of order", i, one.back, one.sent, one.missing, one.swapped)
		}
		longest = max(longest, one.longest)
	}
	t.Logf("longest time without service %v, longest gap between packets %v", slowest, longest)
	counters := s.current.Counters()
	total := 0
	for _, one := range streams {
		total += one.sent + 1
	}
	if counters.AllocationsMade != 9 || counters.Allocations != 9 || counters.ToPeer.Packets != uint64(total) || counters.Streams != 8 ||
		counters.AllocationsByTransport[event.TCP] != 3 || counters.AllocationsByTransport[event.DTLS] != 3 ||
		counters.AllocationsEnded[event.EndedByUpgrade] != 0 {
		t.Errorf("after %d packets, the counters are %+v", total, counters)
	}
	// The quota of the user is still reached, and old nonces and channels are still valid.
	other := dial(t, "udp", s.udp)
	other.use(user)
	other.want(other.request(stun.MethodAllocate, turntest.TransportUDP), stun.CodeAllocationQuotaReached)
	for _, one := range streams {
		one.client.want(one.client.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
	}
	idle.allocate()
	idleDTLS.allocate()
	if n := s.current.Allocations(); n != 2 {
		t.Errorf("%d allocations at the end, want 2", n)
	}
}

// compareSessions returns how the allocations of two servers differ, apart from what they have relayed.
func compareSessions(before, after []event.Allocation) string {
	if len(before) != len(after) {
		return fmt.Sprintf("there were %d allocations, and are %d", len(before), len(after))
	}
	byRelayed := make(map[netip.AddrPort]event.Allocation)
	for _, a := range before {
		byRelayed[a.Relayed] = a
	}
	for _, a := range after {
		b, ok := byRelayed[a.Relayed]
		moved := a.Expires.Sub(b.Expires).Abs()
		if !ok || a.Tuple != b.Tuple || a.Username != b.Username || a.Subject != b.Subject || a.Peers != b.Peers || a.Channels != b.Channels ||
			!a.Made.Equal(b.Made) || moved > 20*time.Millisecond || a.ToPeer.Packets < b.ToPeer.Packets {
			return fmt.Sprintf("the allocation was %+v, and is %+v", b, a)
		}
	}
	return ""
}

// TestHandOverAtFormerAddress hands a call over whose relayed address is at an address that the relay had before. The next server takes it
// over if its addresses may change, and new calls get the present address.
func TestHandOverAtFormerAddress(t *testing.T) {
	config := func(address string, changing bool) Config {
		c := testConfig(t)
		addr := netip.MustParseAddr(address)
		c.Relay = turntest.TestRelay(t, relay.Config{Addresses: []relay.Address{{Bind: addr, Advertise: addr}}, Changing: changing})
		return c
	}
	first := config("127.0.0.1", true)
	s := newSuccession(t, 1, first)
	c := dial(t, "udp", s.udp)
	former := c.allocate()
	c.want(c.request(stun.MethodChannelBind, turntest.PeerAddr(udp.AddrPortOf(echo(t))), turntest.Channel(0x4000)), 0)
	present := netip.MustParseAddr("127.0.0.2")
	if err := first.Relay.SetAddresses([]relay.Address{{Bind: present, Advertise: present}}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time, the call is at an address that this process never had
		s.handOver(config("127.0.0.2", true))
		c.write(turntest.ChannelData(0x4000, "x"))
		if _, data, err := stun.ParseChannelData(c.read()); err != nil || string(data) != "x" {
			t.Fatalf("the call got %q, %v", data, err)
		}
		caller := dial(t, "udp", s.udp)
		to := caller.allocate()
		if to.Addr() != present {
			t.Errorf("a new call is at %v", to)
		}
		caller.want(caller.request(stun.MethodCreatePermission, turntest.PeerAddr(former)), 0)
		c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(to)), 0)
		caller.write(caller.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(former), turntest.Attr(stun.AttrData, 'y')))
		if m := c.parse(c.read()); m.Method != stun.MethodData {
			t.Errorf("a call at the former address got %v from the new one", m.Method)
		}
		caller.want(caller.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
	}
}

// TestFailedHandOver lets a successor fail in several ways: the server goes on as if nothing had been.
func TestFailedHandOver(t *testing.T) {
	s := newSuccession(t, 1, testConfig(t))
	far := udp.AddrPortOf(echo(t))
	var streams []*stream
	for _, c := range []*rawClient{dial(t, "udp", s.udp), dial(t, "tcp", s.tcp), dialDTLS(t, s.udp)} {
		c.allocate()
		c.want(c.request(stun.MethodChannelBind, turntest.PeerAddr(far), turntest.Channel(0x4000)), 0)
		streams = append(streams, &stream{client: c, channel: 0x4000})
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, one := range streams {
		running.Go(func() { one.run(stop) })
	}
	for _, tt := range []struct {
		name   string
		change func(state []byte) []byte
		config func(*Config)
		listen bool
		want   string
	}{
		{"empty", func([]byte) []byte { return nil }, nil, true, "damaged"},
		{"damaged", func(state []byte) []byte { state[len(state)-1]++; return state }, nil, true, "damaged"},
		{"too new", func(state []byte) []byte { state[len("mailturn state\n")]++; return state }, nil, true, "version"},
		{"another port range", nil, func(c *Config) { c.Relay = turntest.TestRelay(t, relay.Config{MinPort: 1024, MaxPort: 1025}) }, true,
			"not one that the configuration allows"},
		{"nothing listens", nil, nil, false, "nothing serves"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := testConfig(t)
			config.Successor = true
			if tt.config != nil {
				tt.config(&config)
			}
			var next *Server
			if tt.listen {
				next = s.serve(config)
			} else {
				var err error
				if next, err = New(config); err != nil {
					t.Fatal(err)
				}
			}
			suspended, err := s.current.Suspend(StateVersion)
			if err != nil {
				t.Fatal(err)
			}
			defer suspended.Resume()
			state, descriptors, err := suspended.State()
			if err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				state = tt.change(state)
			}
			wait := 20 * time.Millisecond
			if tt.listen {
				wait = 5 * time.Second // until the goroutines of serve have begun
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			if err := next.Restore(ctx, state, s.duplicates(descriptors)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got the error %v, want one with %q", err, tt.want)
			}
			if err := next.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	close(stop)
	running.Wait()
	for i, one := range streams {
		if one.missing > 0 || one.back != one.sent || one.sent == 0 {
			t.Errorf("client %d: %d of %d packets came back", i, one.back, one.sent)
		}
	}
	if n := s.current.Allocations(); n != 3 {
		t.Errorf("%d allocations, want 3", n)
	}
}
