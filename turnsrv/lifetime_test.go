package turnsrv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// bubble is a server in a synctest bubble, on a network in memory.
type bubble struct {
	*testing.T
	server *Server
	net    *turntest.MemNet
	socket *turntest.MemConn
	stream *turntest.PipeListener
	events []event.Event // read after synctest.Wait
}

// inBubble runs f with a server whose clock is the bubble's.
func inBubble(t *testing.T, change func(*Config), f func(b *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, net: turntest.NewMemNet(), stream: turntest.NewPipeListener()}
		config := testConfig(t)
		config.Relay = turntest.TestRelay(t, relay.Config{Listen: b.net.Listen})
		var mu sync.Mutex
		config.OnEvent = func(e event.Event) { mu.Lock(); defer mu.Unlock(); b.events = append(b.events, e) }
		if change != nil {
			change(&config)
		}
		server, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		b.server = server
		b.socket = b.listen()
		if onPlainPion() {
			listen := func(port int) (net.PacketConn, error) {
				return b.net.Bind(netip.AddrPortFrom(turntest.Loopback, uint16(port)))
			}
			plain := plainPion(t, config, listen, []net.PacketConn{b.socket},
				[]net.Listener{turntest.AddressedListener{PipeListener: b.stream, Next: new(int)}})
			defer func() { _ = plain.Close() }()
			f(b)
			return
		}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.ServePacket(b.socket) })
		serving.Go(func() { _ = server.ServeStream(b.stream) })
		defer func() { // also runs after t.Fatal
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			serving.Wait()
			if n := server.Allocations(); n != 0 {
				t.Errorf("%d allocations are left", n)
			}
		}()
		f(b)
	})
}

func (b *bubble) listen() *turntest.MemConn {
	b.Helper()
	c, err := b.net.Bind(netip.AddrPortFrom(turntest.Loopback, 0))
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func (b *bubble) client() *rawClient {
	return newRawClient(b, turntest.Connected{MemConn: b.listen(), To: b.socket.Addr}, false)
}

// reaches reports whether a datagram from peer reaches the client.
func (b *bubble) reaches(c *rawClient, peer *turntest.MemConn, relayed netip.AddrPort) bool {
	b.Helper()
	if _, err := peer.WriteToUDPAddrPort([]byte("ping"), relayed); err != nil {
		b.Fatal(err)
	}
	_, err := c.tryRead(time.Millisecond)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// gets reports whether data from the client reaches peer.
func (b *bubble) gets(c *rawClient, peer *turntest.MemConn, message []byte) bool {
	b.Helper()
	c.write(message)
	synctest.Wait()
	select {
	case <-peer.In:
		return true
	default:
		return false
	}
}

func (b *bubble) send(c *rawClient, peer *turntest.MemConn) bool {
	b.Helper()
	return b.gets(c, peer, c.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(peer.Addr),
		turntest.Attr(stun.AttrData, 'x')))
}

func TestT39AllocationExpires(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = time.Hour }, func(b *bubble) {
		// The janitor runs at the interval of the first allocation, so it does not end the second one on time.
		b.client().allocate()
		time.Sleep(session.JanitorPeriod / 2)
		c, peer := b.client(), b.listen()
		relayed := c.allocate()
		c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 0)
		start := time.Now()
		time.Sleep(DefaultLifetime - time.Millisecond)
		c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 0)
		if !b.send(c, peer) {
			t.Error("the allocation does not work in its last millisecond")
		}
		time.Sleep(time.Until(start.Add(DefaultLifetime)))
		if b.send(c, peer) {
			t.Error("the allocation works after its lifetime")
		}
		c.want(c.request(stun.MethodRefresh), 437)
		time.Sleep(session.JanitorPeriod)
		synctest.Wait()
		if b.server.Allocations() != 0 || b.net.Conns[relayed] != nil {
			t.Error("the expired allocation still holds its port")
		}
		if last := b.events[len(b.events)-1]; last.Kind != event.AllocationEnded || last.End != event.EndedExpired ||
			last.ToPeer.Packets != 1 {
			t.Errorf("last event %+v", last)
		}
		c.allocate()
	})
}

func TestRefreshExtends(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.client()
		c.allocate()
		for range 20 { // more than three hours
			time.Sleep(9 * time.Minute)
			if a := c.request(stun.MethodRefresh); a.code == 438 {
				c.want(c.request(stun.MethodRefresh), 0)
			}
		}
		if b.server.Allocations() != 1 {
			t.Error("the allocation is gone")
		}
		time.Sleep(DefaultLifetime + session.JanitorPeriod)
		synctest.Wait()
		if b.server.Allocations() != 0 {
			t.Error("the allocation outlives its last refresh")
		}
	})
}

// werift 0.25 signs its response to a 438 over a message that still has the old MESSAGE-INTEGRITY and FINGERPRINT. Without a valid
// FINGERPRINT no server answers it, so that the call pauses for seconds, or ends if the message was a Refresh.
func TestFirstNonceLastsAnHour(t *testing.T) {
	inBubble(t, func(*Config) {}, func(b *bubble) {
		c, peer := b.client(), b.listen()
		c.use(credential.Issuer{Secret: credential.NewSecret([]byte(turntest.TestSecret)), TTL: 48 * time.Hour}.Issue(time.Now()))
		c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 0)
		const interval = 500 * time.Second // of werift
		for elapsed := time.Duration(0); elapsed < time.Hour-interval; elapsed += interval {
			time.Sleep(interval)
			c.want(c.request(stun.MethodRefresh), 0)
			c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 0)
		}
		time.Sleep(interval)
		c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 438)
	})
}

// An allocation may have a lifetime of a day, in which its nonce expires.
func TestLifetimeOfADay(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxLifetime = 24 * time.Hour }, func(b *bubble) {
		c, peer := b.client(), b.listen()
		c.use(credential.Issuer{Secret: credential.NewSecret([]byte(turntest.TestSecret)), TTL: 48 * time.Hour}.Issue(time.Now()))
		a := c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Lifetime(86400)), 0)
		relayed := c.relayed(a)
		if a.lifetime() != 24*time.Hour {
			t.Fatalf("lifetime %v", a.lifetime())
		}
		time.Sleep(23 * time.Hour)
		if a := c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 438); !a.HasIntegrity() {
			t.Error("a stale nonce of an allocation is answered without integrity, which werift ignores")
		}
		c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 0)
		if !b.reaches(c, peer, relayed) || !b.send(c, peer) {
			t.Error("the allocation does not work after 23 hours")
		}
	})
}

func TestPermissionLifetime(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = time.Hour; c.Lifetime = time.Hour }, func(b *bubble) {
		c, peer := b.client(), b.listen()
		relayed := c.allocate()
		if b.reaches(c, peer, relayed) || b.send(c, peer) {
			t.Error("data passes without a permission")
		}
		c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 0)
		for range 3 {
			time.Sleep(4 * time.Minute)
			if !b.reaches(c, peer, relayed) || !b.send(c, peer) {
				t.Error("data does not pass with a permission of four minutes")
			}
			c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 0)
		}
		time.Sleep(session.PermissionLifetime - 2*time.Millisecond)
		if !b.reaches(c, peer, relayed) || !b.send(c, peer) {
			t.Error("the permission does not last five minutes")
		}
		time.Sleep(2 * time.Millisecond)
		if b.reaches(c, peer, relayed) || b.send(c, peer) {
			t.Error("the permission lasts longer than five minutes")
		}
	})
}

// A permission or channel that is refreshed at the moment of its expiry must remain.
func TestT39PermissionRefreshedAtItsEnd(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = 24 * time.Hour; c.Lifetime = time.Hour }, func(b *bubble) {
		c, peer := b.client(), b.listen()
		relayed := c.allocate(turntest.Lifetime(3599))
		refresh := func(method stun.Method, sets ...turntest.Set) {
			a := c.request(method, sets...)
			if a.code == stun.CodeStaleNonce {
				a = c.request(method, sets...)
			}
			if a.code != 0 {
				t.Fatalf("%v does not work: answered %d", method, a.code)
			}
		}
		refresh(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr))
		refresh(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr))
		for i := range 50 {
			// The timer fires in the same instant of the bubble, before or after the request.
			wait := session.PermissionLifetime
			if i%2 == 1 {
				wait = session.ChannelLifetime
			}
			time.Sleep(wait)
			refresh(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr))
			refresh(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr))
			synctest.Wait()
			if !b.reaches(c, peer, relayed) || !b.send(c, peer) || !b.gets(c, peer, turntest.ChannelData(0x4000, "x")) {
				t.Fatalf("round %d: what was just refreshed does not work", i)
			}
			refresh(stun.MethodRefresh, turntest.Lifetime(3599))
		}
	})
}

func TestChannelLifetime(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = time.Hour; c.Lifetime = time.Hour }, func(b *bubble) {
		c, peer, other := b.client(), b.listen(), b.listen()
		relayed := c.allocate()
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
		if !b.gets(c, peer, turntest.ChannelData(0x4000, "x")) || !b.reaches(c, peer, relayed) {
			t.Error("the channel does not work")
		}
		time.Sleep(session.ChannelLifetime)
		synctest.Wait()
		c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 0)
		if b.gets(c, peer, turntest.ChannelData(0x4000, "x")) {
			t.Error("the channel lasts longer than ten minutes")
		}
		// The channel number and the peer can be bound again, to others.
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(other.Addr)), 0)
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4001), turntest.PeerAddr(peer.Addr)), 0)
		if !b.gets(c, other, turntest.ChannelData(0x4000, "x")) || !b.gets(c, peer, turntest.ChannelData(0x4001, "x")) {
			t.Error("the channels do not work")
		}
	})
}

// A channel relays to and from its own peer address for its whole lifetime without CreatePermission: aioice rebinds every 500 s
// and sends none. Other ports of the host stop working when the permission of the binding expires.
func TestT30ChannelOutlivesPermission(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = 2 * time.Hour; c.Lifetime = time.Hour }, func(b *bubble) {
		c, peer, other := b.client(), b.listen(), b.listen()
		relayed := c.allocate(turntest.Lifetime(3599))
		works := func(when string) {
			t.Helper()
			if !b.gets(c, peer, turntest.ChannelData(0x4000, "x")) {
				t.Errorf("%s, nothing reaches the peer through the channel", when)
			}
			if !b.reaches(c, peer, relayed) {
				t.Errorf("%s, the peer does not reach the client", when)
			}
		}
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
		works("at first")
		if !b.reaches(c, other, relayed) || !b.send(c, other) {
			t.Error("another port of the peer's host is cut off before the permission ends")
		}
		for round := range 3 {
			bound := time.Now()
			time.Sleep(session.PermissionLifetime)
			works("when the permission has ended")
			if b.reaches(c, other, relayed) || b.send(c, other) {
				t.Error("another port of the peer's host outlives the permission")
			}
			time.Sleep(500*time.Second - time.Since(bound))
			works("after 500 s")
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
			if !b.reaches(c, other, relayed) || !b.send(c, other) {
				t.Errorf("round %d: the binding has not renewed the permission", round)
			}
		}
		time.Sleep(session.ChannelLifetime - time.Millisecond)
		works("just before the channel ends")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if b.gets(c, peer, turntest.ChannelData(0x4000, "x")) || b.reaches(c, peer, relayed) {
			t.Error("the channel relays after its end")
		}
	})
}

// A Send indication reaches the peer of a channel as ChannelData does, but no other peer.
func TestSendIndicationToBoundPeer(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = time.Hour; c.Lifetime = time.Hour }, func(b *bubble) {
		c, peer, other := b.client(), b.listen(), b.listen()
		c.allocate()
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
		time.Sleep(session.PermissionLifetime)
		if !b.send(c, peer) {
			t.Error("the bound peer is cut off when the permission ends")
		}
		if b.send(c, other) {
			t.Error("another port of the peer's host outlives the permission")
		}
	})
}

// A client that allocates at the moment when its allocation expires, before the janitor has run, gets a new allocation although
// its quota has no room for two.
func TestAllocateAgainAtExpiry(t *testing.T) {
	for _, bind := range []bool{false, true} {
		inBubble(t, func(c *Config) { c.NonceLifetime = time.Hour; c.MaxAllocationsPerSource = 2 }, func(b *bubble) {
			b.client().allocate(turntest.Lifetime(3000)) // the janitor runs at the interval of the first allocation
			time.Sleep(session.JanitorPeriod / 2)
			c, peer := b.client(), b.listen()
			old := c.allocate()
			if bind {
				c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
			}
			time.Sleep(DefaultLifetime)
			again := c.relayed(c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 0))
			if again == old {
				t.Errorf("bound %v: the new allocation has the address of the old one, %v", bind, old)
			}
			time.Sleep(2 * session.JanitorPeriod)
			synctest.Wait()
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
			if !b.gets(c, peer, turntest.ChannelData(0x4000, "x")) || !b.reaches(c, peer, again) {
				t.Errorf("bound %v: the new allocation does not work", bind)
			}
		})
	}
}

// The expiry of a credential must not interrupt a call.
func TestCredentialExpiresInACall(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = 48 * time.Hour }, func(b *bubble) {
		c, peer := b.client(), b.listen()
		c.use(credential.Issuer{Secret: credential.NewSecret([]byte(turntest.TestSecret)), TTL: 86 * time.Second}.Issue(time.Now()))
		c.allocate()
		start := time.Now()
		for time.Since(start) < DefaultExpiredGrace {
			time.Sleep(5 * time.Minute)
			c.want(c.request(stun.MethodRefresh), 0)
			c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 0)
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
		}
		second := b.client()
		second.use(c.credential)
		second.want(second.request(stun.MethodAllocate, turntest.TransportUDP), 401)
		time.Sleep(86 * time.Second)
		c.want(c.request(stun.MethodRefresh), 401) // the grace is over as well
	})
}

// A permission requested at the moment when its allocation expires must not find a partly deleted allocation.
func TestT03ExpiryRacesWithCreatePermission(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = time.Hour }, func(b *bubble) {
		for i := range 20 {
			c := b.client()
			c.allocate()
			// The janitor runs at an interval of its own: test the time before, at and after it.
			time.Sleep(DefaultLifetime - 5*time.Millisecond + time.Duration(i)*time.Millisecond)
			for j := range 100 {
				peer := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i), byte(j)}), 40000)
				if a := c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer)); a.code != 0 && a.code != 437 {
					t.Fatalf("CreatePermission answered %d", a.code)
				}
				time.Sleep(time.Millisecond / 10)
			}
			time.Sleep(session.JanitorPeriod)
		}
		synctest.Wait()
		if n := b.server.Allocations(); n != 0 {
			t.Errorf("%d allocations are left", n)
		}
	})
}

func TestT05SocketErrorsEndNothing(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.client()
		c.allocate()
		b.socket.Fail(syscall.ECONNREFUSED, syscall.ENOBUFS, syscall.EHOSTUNREACH, fmt.Errorf("whatever: %w", syscall.EPERM))
		time.Sleep(time.Second)
		c.want(c.request(stun.MethodRefresh), 0)
	})
}

func TestSocketClosedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := turntest.NewMemNet()
		config := testConfig(t)
		config.Relay = turntest.TestRelay(t, relay.Config{Listen: network.Listen})
		server, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		socket, err := network.Bind(netip.AddrPortFrom(turntest.Loopback, 0))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- server.ServePacket(socket) }()
		near, err := network.Bind(netip.AddrPortFrom(turntest.Loopback, 0))
		if err != nil {
			t.Fatal(err)
		}
		c := newRawClient(t, turntest.Connected{MemConn: near, To: socket.Addr}, false)
		c.allocate()
		_ = socket.Close()
		if err := <-served; err == nil || errors.Is(err, ErrServerClosed) {
			t.Errorf("ServePacket = %v, want the socket's error", err)
		}
		if n := server.Allocations(); n != 0 {
			t.Errorf("%d allocations are left", n)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := server.ServePacket(socket); err != ErrServerClosed {
			t.Errorf("ServePacket after Close = %v", err)
		}
	})
}

func TestShutdownLetsCallsEnd(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.client()
		c.allocate()
		done := make(chan error, 1)
		go func() { done <- b.server.Shutdown(b.Context()) }()
		synctest.Wait()
		second := b.client()
		second.want(second.request(stun.MethodAllocate, turntest.TransportUDP), 508)
		c.want(c.request(stun.MethodRefresh), 0)
		c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
		if err := <-done; err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
}

// TestShutdownWithoutCalls checks that Shutdown succeeds without allocations, however short its timeout.
func TestShutdownWithoutCalls(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		server, err := New(testConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestShutdownCutShort(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.client()
		c.allocate()
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		defer cancel()
		if err := b.server.Shutdown(ctx); !errors.Is(err, ctx.Err()) || err == nil {
			t.Errorf("Shutdown = %v, want %v", err, ctx.Err())
		}
	})
}
