package relay

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// owner records what a Conn tells. It admits every peer unless it is told otherwise.
type owner struct {
	mu       sync.Mutex
	refuse   bool
	sent     int
	got      []string // delivered, with the sender
	refused  []string
	unsent   int
	oversize int
	drained  int
}

func (o *owner) Admit(netip.AddrPort, int) bool { o.mu.Lock(); defer o.mu.Unlock(); return !o.refuse }
func (o *owner) Sent(int)                       { o.mu.Lock(); defer o.mu.Unlock(); o.sent++ }
func (o *owner) Unsent(error)                   { o.mu.Lock(); defer o.mu.Unlock(); o.unsent++ }
func (o *owner) Oversize()                      { o.mu.Lock(); defer o.mu.Unlock(); o.oversize++ }
func (o *owner) Drained()                       { o.mu.Lock(); defer o.mu.Unlock(); o.drained++ }
func (o *owner) Deliver(peer netip.AddrPort, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, peer.String()+" "+string(data))
}
func (o *owner) Refused(_ netip.AddrPort, rule string) {
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

func allocate(t testing.TB, a *Allocator, request Request) (*Conn, Token) {
	t.Helper()
	if request.Family == 0 {
		request.Family = stun.IPv4
	}
	if request.Owner == nil {
		request.Owner = &owner{}
	}
	c, token, err := a.Allocate(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, token
}

func listen(t testing.TB) (*net.UDPConn, *net.UDPAddr) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
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

func TestRelaysBothWays(t *testing.T) {
	o := &owner{}
	c, _ := allocate(t, newAllocator(t, Config{}), Request{Owner: o})
	far, farAddr := listen(t)
	if _, err := c.WriteTo([]byte("to peer"), farAddr); err != nil {
		t.Fatal(err)
	}
	data, from := read(t, far)
	if data != "to peer" || from.(*net.UDPAddr).AddrPort() != c.Relayed() {
		t.Errorf("peer got %q from %v, want it from %v", data, from, c.Relayed())
	}
	if _, err := far.WriteTo([]byte("to client"), from); err != nil {
		t.Fatal(err)
	}
	if data, from := read(t, c); data != "to client" || from.String() != farAddr.String() {
		t.Errorf("client got %q from %v", data, from)
	}
	if o.sent != 1 {
		t.Errorf("owner was told of %d packets", o.sent)
	}
}

func TestT07OversizeIsDroppedWhole(t *testing.T) {
	o := &owner{}
	c, _ := allocate(t, newAllocator(t, Config{}), Request{Owner: o})
	far, _ := listen(t)
	for _, size := range []int{1600, 65507} {
		if _, err := far.WriteTo(make([]byte, size), net.UDPAddrFromAddrPort(c.Relayed())); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := far.WriteTo(make([]byte, 1599), net.UDPAddrFromAddrPort(c.Relayed())); err != nil {
		t.Fatal(err)
	}
	if data, _ := read(t, c); len(data) != 1599 || o.oversize != 2 {
		t.Errorf("got %d bytes after %d oversize datagrams, want 1599 after 2", len(data), o.oversize)
	}
}

func TestNotAdmittedPeerIsDropped(t *testing.T) {
	o := &owner{refuse: true}
	c, _ := allocate(t, newAllocator(t, Config{}), Request{Owner: o})
	far, _ := listen(t)
	done := make(chan error, 1)
	go func() {
		_, _, err := c.ReadFrom(make([]byte, 1600))
		done <- err
	}()
	if _, err := far.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(c.Relayed())); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("ReadFrom = %v, want net.ErrClosed", err)
	}
	if _, _, err := c.ReadFrom(make([]byte, 1600)); !errors.Is(err, net.ErrClosed) || o.drained != 1 {
		t.Errorf("ReadFrom again = %v, owner told %d times that it is over, want once", err, o.drained)
	}
}

func TestT38CloseIsIdempotentAndFreesThePort(t *testing.T) {
	a := newAllocator(t, Config{})
	first, _ := allocate(t, a, Request{})
	port := first.Relayed().Port()
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f := a.families[stun.IPv4]
	if !f.take(port) {
		t.Fatal("the port is not free")
	}
	f.release(port)
	if _, err := first.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}); err != nil {
		t.Errorf("WriteTo after Close = %v, want no error", err)
	}
}

func TestPolicyIsAskedAtEachSend(t *testing.T) {
	o := &owner{}
	c, _ := allocate(t, newAllocator(t, Config{}), Request{Owner: o})
	for _, to := range []string{"10.0.0.1:40000", "127.0.0.1:53", "169.254.169.254:80", "[::ffff:10.0.0.1]:40000"} {
		if _, err := c.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); err != nil {
			t.Fatal(err)
		}
	}
	if len(o.refused) != 4 || o.sent != 0 {
		t.Errorf("refused %q, sent %d", o.refused, o.sent)
	}
}

// listenWithoutWriting opens sockets that nothing can be sent through.
func listenWithoutWriting(network string, addr netip.AddrPort) (Socket, error) {
	socket, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	return readOnly{socket}, err
}

type readOnly struct{ *net.UDPConn }

func (readOnly) WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error) {
	return 0, errors.New("not through the kernel")
}

// Two callers on one relay, in front of which is a NAT: the address that is advertised is on no interface.
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
			alice, _ := allocate(t, a, Request{Owner: oa})
			bob, _ := allocate(t, a, Request{Owner: ob})
			if _, ok := a.MayPermit(public); !ok {
				t.Error("no permission for the relay's own address")
			}
			if rule, ok := a.MayReach(bob.Relayed()); !ok {
				t.Errorf("a relayed address cannot be reached: %s", rule)
			}
			if _, err := alice.WriteTo([]byte("hello bob"), net.UDPAddrFromAddrPort(bob.Relayed())); err != nil {
				t.Fatal(err)
			}
			if got, want := ob.got, []string{alice.Relayed().String() + " hello bob"}; !slices.Equal(got, want) || oa.sent != 1 {
				t.Errorf("bob got %q, want %q; alice has sent %d", got, want, oa.sent)
			}
			// A port that is no relayed address stays closed, and so does the way in by the address to bind.
			_, farAddr := listen(t)
			for _, to := range []netip.AddrPort{
				netip.AddrPortFrom(public, uint16(farAddr.Port)),
				netip.AddrPortFrom(loopback, bob.Relayed().Port()),
			} {
				if _, ok := a.MayReach(to); ok {
					t.Errorf("%v may be reached", to)
				}
			}
			_ = bob.Close()
			if _, ok := a.MayReach(bob.Relayed()); ok {
				t.Error("a relayed address may be reached after its end")
			}
		})
	}
}

func TestOperatorsDenyBeatsOwnRelayedAddress(t *testing.T) {
	a := newAllocator(t, Config{Peers: peer.New(peer.Rules{Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})})
	c, _ := allocate(t, a, Request{})
	if _, ok := a.MayReach(c.Relayed()); ok {
		t.Error("a denied address may be reached")
	}
	if _, ok := a.MayPermit(loopback); ok {
		t.Error("a denied address may be permitted")
	}
}

func TestT26EvenPort(t *testing.T) {
	a := newAllocator(t, Config{})
	c, token := allocate(t, a, Request{EvenPort: true})
	if c.Relayed().Port()%2 != 0 || token != (Token{}) {
		t.Errorf("port %d, token %x", c.Relayed().Port(), token)
	}
	c, token = allocate(t, a, Request{EvenPort: true, ReserveNext: true})
	if c.Relayed().Port()%2 != 0 || token == (Token{}) {
		t.Fatalf("port %d, token %x", c.Relayed().Port(), token)
	}
	// The next port is held: nobody else gets it from the system, and it is no relayed address yet.
	next := netip.AddrPortFrom(loopback, c.Relayed().Port()+1)
	if _, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(next)); err == nil {
		t.Error("the reserved port is free")
	}
	if a.families[stun.IPv4].conn(next.Port()) != nil {
		t.Error("the reserved port counts as a relayed address")
	}
	held, _ := allocate(t, a, Request{Token: &token})
	if held.Relayed() != next {
		t.Errorf("the token gave %v, want %v", held.Relayed(), next)
	}
	if _, _, err := a.Allocate(Request{Token: &token, Owner: &owner{}}); !errors.Is(err, ErrToken) {
		t.Errorf("the token a second time: %v, want ErrToken", err)
	}
}

func TestT26ReservationEndsAfter30Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAllocator(t, Config{})
		_, token := allocate(t, a, Request{EvenPort: true, ReserveNext: true})
		time.Sleep(ReservationLifetime)
		synctest.Wait()
		if _, _, err := a.Allocate(Request{Token: &token, Owner: &owner{}}); !errors.Is(err, ErrToken) {
			t.Errorf("the token after its time: %v, want ErrToken", err)
		}
		if n := len(a.families[stun.IPv4].used); n != 1 {
			t.Errorf("%d ports in use, want 1", n)
		}
	})
}

func TestPortsRunOut(t *testing.T) {
	// Find four ports in a row that are free, beginning with an even one.
	var first uint16
	probe := newAllocator(t, Config{MinPort: 61000, MaxPort: 65535}) // above what the system gives out by itself
	for first == 0 {
		c, _ := allocate(t, probe, Request{EvenPort: true})
		port := c.Relayed().Port()
		_ = c.Close()
		if port <= DefaultMaxPort-3 && canBind(port, port+1, port+2, port+3) {
			first = port
		}
	}
	a := newAllocator(t, Config{MinPort: first, MaxPort: first + 3})
	seen := map[uint16]bool{}
	for range 2 {
		c, _ := allocate(t, a, Request{EvenPort: true, ReserveNext: true})
		seen[c.Relayed().Port()] = true
	}
	if !seen[first] || !seen[first+2] {
		t.Errorf("even ports %v, want %d and %d", seen, first, first+2)
	}
	if _, _, err := a.Allocate(Request{Family: stun.IPv4, Owner: &owner{}}); !errors.Is(err, ErrNoPort) {
		t.Errorf("a fifth port: %v, want ErrNoPort", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	allocate(t, a, Request{}) // what was only held is free again
	if _, _, err := a.Allocate(Request{Family: stun.IPv4, EvenPort: true, ReserveNext: true, Owner: &owner{}}); !errors.Is(err, ErrNoPort) {
		t.Errorf("a pair when there is none: %v, want ErrNoPort", err)
	}
}

func canBind(ports ...uint16) bool {
	for _, port := range ports {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
		if err != nil {
			return false
		}
		_ = c.Close()
	}
	return true
}

func TestFamilies(t *testing.T) {
	a := newAllocator(t, Config{Addresses: []Address{{Bind: netip.IPv6Loopback(), Advertise: netip.IPv6Loopback()}}})
	if a.Has(stun.IPv4) || !a.Has(stun.IPv6) {
		t.Error("an IPv6 relay has the wrong families")
	}
	if _, _, err := a.Allocate(Request{Family: stun.IPv4, Owner: &owner{}}); !errors.Is(err, ErrFamily) {
		t.Errorf("Allocate = %v, want ErrFamily", err)
	}
	c, _ := allocate(t, a, Request{Family: stun.IPv6})
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
		c, _, err := a.Allocate(Request{Family: stun.IPv4, Owner: &owner{}})
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}
