package relay

import (
	"errors"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// owner records the calls of a Conn.
type owner struct {
	mu      sync.Mutex
	sent    int
	got     []string // delivered, with the sender
	refused []string
	unsent  int

	heard chan string // gets what is delivered, if it is not nil
}

func (o *owner) Sent(_ int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.sent++
	} else {
		o.unsent++
	}
}
func (o *owner) Deliver(peer netip.AddrPort, data []byte, _ time.Time) {
	o.mu.Lock()
	o.got = append(o.got, peer.String()+" "+string(data))
	o.mu.Unlock()
	if o.heard != nil {
		o.heard <- string(data)
	}
}
func (o *owner) Failed(netip.AddrPort, stun.ICMP, time.Time) {}
func (o *owner) Refused(_ netip.AddrPort, rule string, _ time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused = append(o.refused, rule)
}

func allowLoopback() *peer.Policy {
	return peer.New(peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
}

func newAllocator(t testing.TB, config Config) *Allocator {
	t.Helper()
	if config.Addresses == nil {
		config.Addresses = []Address{{Bind: loopback, Advertise: loopback}}
	}
	if config.Peers == nil {
		config.Peers = allowLoopback()
	}
	a, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// allocate opens a relayed address of owner, or of an owner that is ignored if owner is nil.
func allocate(t testing.TB, a *Allocator, request Request, o Owner) (*Conn, Token) {
	t.Helper()
	if request.Family == 0 {
		request.Family = stun.IPv4
	}
	if o == nil {
		o = &owner{}
	}
	c, token, err := a.Allocate(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { on(request.Loop, c.Close) })
	if on(request.Loop, func() { err = c.Start(o) }); err != nil {
		t.Fatal(err)
	}
	return c, token
}

// on calls f on the goroutine of l, or directly if l is nil.
func on(l *loop.Loop, f func()) {
	if l == nil {
		f()
	} else {
		l.Do(f)
	}
}

// newLoop returns an event loop, which ends with the test. It returns nil on systems without.
func newLoop(t testing.TB) *loop.Loop {
	t.Helper()
	l, err := loop.New(loop.Options{})
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func listen(t testing.TB) (*net.UDPConn, *net.UDPAddr) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c, c.LocalAddr().(*net.UDPAddr)
}

func read(t testing.TB, c net.PacketConn) (string, net.Addr) {
	t.Helper()
	buf := make([]byte, 1600)
	n, from, err := c.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n]), from
}

// listeners are the ways in which an Allocator opens sockets.
var listeners = map[string]func(network string, addr netip.AddrPort) (Socket, error){
	"its own": nil,
	"loop":    nil, // its own, for an event loop
	"given": func(network string, addr netip.AddrPort) (Socket, error) {
		return net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	},
}

func TestRelaysBothWays(t *testing.T) {
	for name, listener := range listeners {
		for _, host := range []netip.Addr{loopback, netip.IPv6Loopback(), netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			t.Run(name+" "+host.String(), func(t *testing.T) {
				own, family := loopback, stun.IPv4
				if host.Is6() {
					own, family = netip.IPv6Loopback(), stun.IPv6
				}
				a := newAllocator(t, Config{
					Addresses: []Address{{Bind: host, Advertise: own}},
					Peers:     peer.New(peer.Rules{Allow: []netip.Prefix{netip.PrefixFrom(own, own.BitLen())}}), Listen: listener,
				})
				var l *loop.Loop
				if name == "loop" {
					l = newLoop(t)
				}
				o := &owner{heard: make(chan string, 1)}
				c, _ := allocate(t, a, Request{Family: family, Loop: l}, o)
				if bound := c.LocalAddr().(*net.UDPAddr).AddrPort(); bound != netip.AddrPortFrom(host, c.Relayed().Port()) {
					t.Errorf("the socket is bound to %v", bound)
				}
				far, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 0)))
				if err != nil {
					t.Fatal(err)
				}
				defer far.Close()
				farAddr := far.LocalAddr().(*net.UDPAddr).AddrPort()
				on(l, func() { c.Send([]byte("to peer"), farAddr, false, time.Now()) })
				data, from := read(t, far)
				if data != "to peer" || from.(*net.UDPAddr).AddrPort() != c.Relayed() {
					t.Errorf("peer got %q from %v, want it from %v", data, from, c.Relayed())
				}
				for _, size := range []int{0, 1, 1600, 9000, 65507} {
					if _, err := far.WriteTo(make([]byte, size), from); err != nil {
						t.Fatal(err)
					}
					if got := <-o.heard; len(got) != size {
						t.Errorf("%d bytes came as %d", size, len(got))
					}
				}
				if o.sent != 1 || o.unsent != 0 || o.got[0] != far.LocalAddr().String()+" " {
					t.Errorf("owner was told of %d and %d packets, and of one from %q", o.sent, o.unsent, o.got[0])
				}
				// Data that exceeds a datagram.
				on(l, func() { c.Send(make([]byte, 65536), farAddr, false, time.Now()) })
				on(l, func() {}) // after the round in which it was sent
				if o.unsent != 1 {
					t.Errorf("owner was told of %d packets that were not taken, want 1", o.unsent)
				}
			})
		}
	}
}

// TestNothingIsHeardAfterClose opens and closes addresses while packets are sent to all of them, so that descriptors are reused
// immediately. Every owner must receive what was sent to its own port, and nothing after its address is closed.
func TestNothingIsHeardAfterClose(t *testing.T) {
	for name, listener := range listeners {
		t.Run(name, func(t *testing.T) {
			a := newAllocator(t, Config{Listen: listener})
			far, _ := listen(t)
			var heard atomic.Int64
			var working sync.WaitGroup
			for range 4 {
				var l *loop.Loop
				if name == "loop" {
					l = newLoop(t)
				}
				working.Go(func() {
					for range 200 {
						o := &strictOwner{t: t, heard: &heard}
						c, _, err := a.Allocate(Request{Family: stun.IPv4, Loop: l})
						if err != nil {
							t.Error(err)
							return
						}
						o.port.Store(int32(c.Relayed().Port()))
						if on(l, func() { err = c.Start(o) }); err != nil {
							t.Error(err)
							return
						}
						for range 10 {
							if _, err := far.WriteToUDPAddrPort([]byte(strconv.Itoa(int(c.Relayed().Port()))), c.Relayed()); err != nil {
								t.Error(err)
							}
						}
						on(l, c.Close)
						o.closed.Store(true)
					}
				})
			}
			working.Wait()
			if heard.Load() == 0 {
				t.Error("nothing was heard at all")
			}
		})
	}
}

// strictOwner accepts data for its own port only, and only while it is open.
type strictOwner struct {
	owner
	t      *testing.T
	heard  *atomic.Int64
	port   atomic.Int32
	closed atomic.Bool
}

func (o *strictOwner) Deliver(_ netip.AddrPort, data []byte, _ time.Time) {
	o.heard.Add(1)
	if got := strconv.Itoa(int(o.port.Load())); got != string(data) {
		o.t.Errorf("the owner of port %s heard what was sent to %s", got, data)
	}
	runtime.Gosched() // so that Close comes meanwhile
	if o.closed.Load() {
		o.t.Error("the owner of a closed address heard something")
	}
}

// TestCloseEndsBusyReaders checks that a flooded relayed address can be closed.
func TestCloseEndsBusyReaders(t *testing.T) {
	l := newLoop(t)
	a := newAllocator(t, Config{})
	c, _ := allocate(t, a, Request{Loop: l}, new(countingOwner))
	far, _ := listen(t)
	stop := make(chan struct{})
	var flood sync.WaitGroup
	defer flood.Wait()
	defer close(stop)
	for range 2 {
		flood.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = far.WriteToUDPAddrPort([]byte("x"), c.Relayed())
				}
			}
		})
	}
	for c.owner.(*countingOwner).heard.Load() < 10000 {
		runtime.Gosched()
	}
	on(l, c.Close)
}

// countingOwner counts datagrams slowly, so that more are always pending.
type countingOwner struct {
	owner
	heard atomic.Int64
}

func (o *countingOwner) Deliver(netip.AddrPort, []byte, time.Time) {
	o.heard.Add(1)
	for range 1000 {
		_ = mathrand.Int()
	}
}

func TestT38CloseIsIdempotentAndFreesThePort(t *testing.T) {
	a := newAllocator(t, Config{})
	o := &owner{}
	first, _ := allocate(t, a, Request{}, o)
	port := first.Relayed().Port()
	for range 2 {
		first.Close()
	}
	f := a.family(stun.IPv4)
	if !f.take(port) {
		t.Fatal("the port is not free")
	}
	f.release(port)
	if first.Send([]byte("x"), netip.MustParseAddrPort("127.0.0.1:40000"), false, time.Now()); o.unsent != 1 {
		t.Errorf("of what is sent after Close %d packets are said not to have been", o.unsent)
	}
}

// TestLostAddressIsNamed allocates at an address that this machine does not have.
func TestLostAddressIsNamed(t *testing.T) {
	lost := netip.MustParseAddr("192.0.2.1") // of documentation
	a := newAllocator(t, Config{Addresses: []Address{{Bind: lost, Advertise: lost}}})
	if _, _, err := a.Allocate(Request{Family: stun.IPv4}); err == nil ||
		!strings.Contains(err.Error(), "bind relay address 192.0.2.1:") {
		t.Errorf("got %v, want the address", err)
	}
}

func TestPolicyIsAskedAtEachSend(t *testing.T) {
	o := &owner{}
	c, _ := allocate(t, newAllocator(t, Config{}), Request{}, o)
	for _, to := range []string{"10.0.0.1:40000", "127.0.0.1:53", "169.254.169.254:80", "[::ffff:10.0.0.1]:40000"} {
		c.Send([]byte("x"), netip.MustParseAddrPort(to), false, time.Now())
	}
	if len(o.refused) != 4 || o.sent != 0 {
		t.Errorf("refused %q, sent %d", o.refused, o.sent)
	}
}

// listenWithoutWriting opens sockets whose writes fail.
func listenWithoutWriting(network string, addr netip.AddrPort) (Socket, error) {
	socket, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	return readOnly{socket}, err
}

type readOnly struct{ *net.UDPConn }

func (readOnly) WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error) {
	return 0, errors.New("not through the kernel")
}

// Two callers on one relay behind a NAT: no interface has the advertised address.
// TestPolicyIsReplaced replaces the policy between packets to one peer.
func TestPolicyIsReplaced(t *testing.T) {
	a, o := newAllocator(t, Config{}), &owner{}
	c, _ := allocate(t, a, Request{}, o)
	to := netip.MustParseAddrPort("127.0.0.2:40000")
	for i, peers := range []*peer.Policy{allowLoopback(), peer.New(peer.Rules{}), allowLoopback()} {
		a.SetPeers(peers)
		for range 2 {
			c.Send([]byte("x"), to, false, time.Now())
		}
		if want := 2 * min(i, 1); len(o.refused) != want {
			t.Errorf("after policy %d: refused %q, want %d packets", i, o.refused, want)
		}
	}
}

func TestTwoCallersBehindNAT(t *testing.T) {
	public := netip.MustParseAddr("203.0.113.5")
	for _, bind := range []netip.Addr{loopback, netip.IPv4Unspecified()} {
		t.Run(bind.String(), func(t *testing.T) {
			a := newAllocator(t, Config{
				Addresses: []Address{{Bind: bind, Advertise: public}},
				Peers:     peer.New(peer.Rules{Own: []netip.Addr{loopback, public}}), // nothing is allowed
				Listen:    listenWithoutWriting,
			})
			oa, ob := &owner{}, &owner{}
			alice, _ := allocate(t, a, Request{}, oa)
			bob, _ := allocate(t, a, Request{}, ob)
			if _, ok := a.MayPermit(public); !ok {
				t.Error("no permission for the relay's own address")
			}
			if rule, ok := a.MayReach(bob.Relayed()); !ok {
				t.Errorf("a relayed address cannot be reached: %s", rule)
			}
			alice.Send([]byte("hello bob"), bob.Relayed(), false, time.Now())
			if got, want := ob.got, []string{alice.Relayed().String() + " hello bob"}; !slices.Equal(got, want) || oa.sent != 1 {
				t.Errorf("bob got %q, want %q; alice has sent %d", got, want, oa.sent)
			}
			// A port that is not a relayed address stays unreachable, also by the bind address.
			_, farAddr := listen(t)
			for _, to := range []netip.AddrPort{
				netip.AddrPortFrom(public, uint16(farAddr.Port)),
				netip.AddrPortFrom(loopback, bob.Relayed().Port()),
			} {
				if _, ok := a.MayReach(to); ok {
					t.Errorf("%v may be reached", to)
				}
			}
			bob.Close()
			if _, ok := a.MayReach(bob.Relayed()); ok {
				t.Error("a relayed address may be reached after its end")
			}
		})
	}
}

func TestOperatorsDenyBeatsOwnRelayedAddress(t *testing.T) {
	a := newAllocator(t, Config{Peers: peer.New(peer.Rules{Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})})
	c, _ := allocate(t, a, Request{}, nil)
	if _, ok := a.MayReach(c.Relayed()); ok {
		t.Error("a denied address may be reached")
	}
	if _, ok := a.MayPermit(loopback); ok {
		t.Error("a denied address may be permitted")
	}
}

func TestT26EvenPort(t *testing.T) {
	a := newAllocator(t, Config{})
	c, token := allocate(t, a, Request{EvenPort: true}, nil)
	if c.Relayed().Port()%2 != 0 || token != (Token{}) {
		t.Errorf("port %d, token %x", c.Relayed().Port(), token)
	}
	c, token = allocate(t, a, Request{EvenPort: true, ReserveNext: true}, nil)
	if c.Relayed().Port()%2 != 0 || token == (Token{}) {
		t.Fatalf("port %d, token %x", c.Relayed().Port(), token)
	}
	// The next port is reserved: the system gives it to nobody else, and it is not a relayed address yet.
	next := netip.AddrPortFrom(loopback, c.Relayed().Port()+1)
	if _, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(next)); err == nil {
		t.Error("the reserved port is free")
	}
	if a.family(stun.IPv4).conn(next.Port()) != nil {
		t.Error("the reserved port counts as a relayed address")
	}
	held, _ := allocate(t, a, Request{Token: &token}, nil)
	if held.Relayed() != next {
		t.Errorf("the token gave %v, want %v", held.Relayed(), next)
	}
	if _, _, err := a.Allocate(Request{Token: &token}); !errors.Is(err, ErrToken) {
		t.Errorf("the token a second time: %v, want ErrToken", err)
	}
}

func TestT26ReservationEndsAfter30Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAllocator(t, Config{Listen: listenToNobody})
		_, token := allocate(t, a, Request{EvenPort: true, ReserveNext: true}, nil)
		time.Sleep(ReservationLifetime)
		synctest.Wait()
		if _, _, err := a.Allocate(Request{Token: &token}); !errors.Is(err, ErrToken) {
			t.Errorf("the token after its time: %v, want ErrToken", err)
		}
		if n := len(a.family(stun.IPv4).ports.used); n != 1 {
			t.Errorf("%d ports in use, want 1", n)
		}
	})
}

// listenToNobody opens sockets for a bubble in which nothing may wait for the system.
func listenToNobody(network string, addr netip.AddrPort) (Socket, error) {
	return &deafSocket{addr: addr, closed: make(chan struct{})}, nil
}

type deafSocket struct {
	addr   netip.AddrPort
	closed chan struct{}
}

func (s *deafSocket) ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error) {
	<-s.closed
	return 0, netip.AddrPort{}, net.ErrClosed
}
func (s *deafSocket) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) { return len(b), nil }
func (s *deafSocket) LocalAddr() net.Addr                                        { return net.UDPAddrFromAddrPort(s.addr) }
func (s *deafSocket) Close() error                                               { close(s.closed); return nil }

func TestPortsRunOut(t *testing.T) {
	// Find four consecutive free ports, beginning with an even one.
	var first uint16
	probe := newAllocator(t, Config{MinPort: 61000, MaxPort: 65535}) // above what the system gives out by itself
	for first == 0 {
		c, _ := allocate(t, probe, Request{EvenPort: true}, nil)
		port := c.Relayed().Port()
		c.Close()
		if port <= DefaultMaxPort-3 && canBind(port, port+1, port+2, port+3) {
			first = port
		}
	}
	a := newAllocator(t, Config{MinPort: first, MaxPort: first + 3})
	seen := map[uint16]bool{}
	for range 2 {
		c, _ := allocate(t, a, Request{EvenPort: true, ReserveNext: true}, nil)
		seen[c.Relayed().Port()] = true
	}
	if !seen[first] || !seen[first+2] {
		t.Errorf("even ports %v, want %d and %d", seen, first, first+2)
	}
	if _, _, err := a.Allocate(Request{Family: stun.IPv4}); !errors.Is(err, ErrNoPort) {
		t.Errorf("a fifth port: %v, want ErrNoPort", err)
	}
	if _, _, err := a.Allocate(Request{Family: stun.IPv4, EvenPort: true, ReserveNext: true}); !errors.Is(err, ErrNoPort) {
		t.Errorf("a pair when there is none: %v, want ErrNoPort", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if !canBind(first+1) || !canBind(first+3) {
		t.Error("what was only held is not free after Close")
	}
}

func canBind(ports ...uint16) bool {
	for _, port := range ports {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
		if err != nil {
			return false
		}
		c.Close()
	}
	return true
}

func TestFamilies(t *testing.T) {
	a := newAllocator(t, Config{Addresses: []Address{{Bind: netip.IPv6Loopback(), Advertise: netip.IPv6Loopback()}}})
	if a.Has(stun.IPv4) || !a.Has(stun.IPv6) {
		t.Error("an IPv6 relay has the wrong families")
	}
	if _, _, err := a.Allocate(Request{Family: stun.IPv4}); !errors.Is(err, ErrFamily) {
		t.Errorf("Allocate = %v, want ErrFamily", err)
	}
	c, _ := allocate(t, a, Request{Family: stun.IPv6}, nil)
	if !c.Relayed().Addr().Is6() {
		t.Errorf("relayed address %v", c.Relayed())
	}
}

func TestNewRefuses(t *testing.T) {
	v4, v6 := Address{Bind: loopback, Advertise: loopback}, netip.IPv6Loopback()
	tests := map[string]Config{
		"no address":          {},
		"two of one family":   {Addresses: []Address{v4, v4}},
		"families mixed":      {Addresses: []Address{{Bind: loopback, Advertise: v6}}},
		"zero address":        {Addresses: []Address{{Bind: loopback}}},
		"unspecified address": {Addresses: []Address{{Bind: loopback, Advertise: netip.IPv4Unspecified()}}},
		"empty range":         {Addresses: []Address{v4}, MinPort: 2000, MaxPort: 1000},
		"range from zero":     {Addresses: []Address{v4}, MaxPort: 1000},
	}
	for name, config := range tests {
		config.Peers = allowLoopback()
		if _, err := New(config); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(Config{Addresses: []Address{v4}}); err == nil {
		t.Error("no policy: no error")
	}
}

func TestCandidatesAreAPermutation(t *testing.T) {
	for _, size := range []int{1, 2, 3, 16, 17, 1000} {
		a := &Allocator{minPort: 65535 - size + 1, maxPort: 65535}
		seen := map[uint16]bool{}
		for port := range a.candidates() {
			seen[port] = true
		}
		if len(seen) != size {
			t.Errorf("%d of %d ports", len(seen), size)
		}
	}
}

func BenchmarkAllocate(b *testing.B) {
	a := newAllocator(b, Config{})
	b.ReportAllocs()
	for b.Loop() {
		c, _, err := a.Allocate(Request{Family: stun.IPv4})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Start(new(owner)); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
