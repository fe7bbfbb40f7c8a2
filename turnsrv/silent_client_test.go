package turnsrv

import (
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// neighbourhood is a socket as Linux has it beside hosts that have vanished: what is sent to one of them takes up the buffer for
// the three seconds in which the system asks for its hardware address.
type neighbourhood struct {
	*memConn
	room int // packets

	mu   sync.Mutex
	gone map[netip.Addr]bool
	held int
}

func (n *neighbourhood) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held >= n.room {
		return 0, syscall.EAGAIN
	}
	if !n.gone[to.Addr()] {
		return n.memConn.WriteToUDPAddrPort(b, to)
	}
	n.held++
	time.AfterFunc(3*time.Second, func() { n.mu.Lock(); n.held--; n.mu.Unlock() })
	return len(b), nil
}

// TestVanishedClientsLeaveRoom has two clients vanish in a call, whose peers send on, beside one that stays.
func TestVanishedClientsLeaveRoom(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = time.Hour }, func(b *bubble) {
		at := func(addr string) *memConn {
			conn, err := b.net.bind(netip.MustParseAddrPort(addr))
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		socket := &neighbourhood{memConn: at("127.0.0.1:5000"), room: 200, gone: make(map[netip.Addr]bool)}
		var serving sync.WaitGroup
		serving.Go(func() { _ = b.server.ServePacket(socket) })
		defer func() { _ = b.server.Close(); serving.Wait() }()

		peer := b.listen()
		call := func(addr string) (*rawClient, netip.AddrPort) {
			c := newRawClient(b, connected{at(addr), socket.addr}, false)
			relayed := c.allocate()
			c.want(c.request(stun.MethodChannelBind, channel(0x4000), peerAddr(peer.addr)), 0)
			return c, relayed
		}
		live, toLive := call("127.0.0.2:4000")
		gone, toGone := call("127.0.0.3:4000")
		_, toOther := call("127.0.0.4:4000")
		// second has a second of the calls pass and returns how much of its own the live client has got.
		second := func() (got int) {
			for range 50 {
				for _, to := range []netip.AddrPort{toGone, toOther, toGone, toOther, toLive} {
					if _, err := peer.WriteToUDPAddrPort([]byte("media"), to); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(20 * time.Millisecond)
			}
			live.write(channelData(0x4000, "mine"))
			for {
				if _, err := live.tryRead(time.Nanosecond); err != nil {
					return got
				}
				got++
			}
		}
		if got := second(); got != 50 {
			t.Fatalf("the live client gets %d packets of 50 before anything happens", got)
		}
		socket.mu.Lock()
		socket.gone[netip.MustParseAddr("127.0.0.3")], socket.gone[netip.MustParseAddr("127.0.0.4")] = true, true
		socket.mu.Unlock()
		lost := 0
		for range 20 { // until they are taken for gone, and the buffer is empty
			lost += 50 - second()
		}
		if lost == 0 {
			t.Fatal("the buffer was never full")
		}
		for i := range 60 {
			if got := second(); got != 50 {
				t.Fatalf("second %d: the live client gets %d packets of 50", i, got)
			}
		}
		// One that comes back is served at once.
		socket.mu.Lock()
		socket.gone = nil
		socket.mu.Unlock()
		for {
			if _, err := gone.tryRead(time.Nanosecond); err != nil {
				break
			}
		}
		gone.write(channelData(0x4000, "here I am"))
		synctest.Wait()
		if !b.reaches(gone, peer, toGone) {
			t.Error("a client that has come back hears nothing")
		}
		if got := b.server.Counters().Dropped[DropSend]; got < 60*100*2 {
			t.Errorf("%d packets counted as not sent", got)
		}
	})
}

// TestSilentClientIsServed: a client that only listens loses nothing as long as there is room.
func TestSilentClientIsServed(t *testing.T) {
	var s silence
	now := time.Unix(1758650868, 0)
	s.hear(now)
	full := func(time.Time) bool { return true }
	room := func(time.Time) bool { return false }
	if now = now.Add(time.Hour); s.leaveOut(room, now) {
		t.Error("a silent client is left out although there is room")
	}
	if !s.leaveOut(full, now) || !s.leaveOut(room, now) {
		t.Error("a silent client is not left out, or not for good")
	}
	s.hear(now)
	if s.leaveOut(full, now.Add(silentAfter)) {
		t.Error("a client that was just heard is left out")
	}
	socket := &sharedSocket{packetSocket: failing{syscall.ENOBUFS}}
	if socket.full(now) {
		t.Error("a socket on which nothing was sent is full")
	}
	_ = socket.writePacket(nil, netip.AddrPort{}, netip.Addr{})
	if now := time.Now(); !socket.full(now) || socket.full(now.Add(fullFor)) {
		t.Error("a socket without room is not full, or for too long")
	}
	socket = &sharedSocket{packetSocket: failing{errors.New("host unreachable")}}
	if _ = socket.writePacket(nil, netip.AddrPort{}, netip.Addr{}); socket.full(time.Now()) {
		t.Error("another error makes a socket full")
	}
}

// failing is a socket on which sending fails.
type failing struct{ err error }

func (f failing) writePacket([]byte, netip.AddrPort, netip.Addr) error { return f.err }
func (failing) readPacket([]byte) (int, netip.AddrPort, netip.Addr, error) {
	return 0, netip.AddrPort{}, netip.Addr{}, errors.ErrUnsupported
}
func (failing) SetReadDeadline(time.Time) error { return nil }
func (failing) Close() error                    { return nil }
