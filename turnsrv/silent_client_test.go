package turnsrv

import (
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// neighbourhood simulates a Linux socket on a network from which hosts have disappeared: packets to such a host occupy the send
// buffer for the three seconds in which the system tries to resolve its hardware address.
type neighbourhood struct {
	*turntest.MemConn
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
		return n.MemConn.WriteToUDPAddrPort(b, to)
	}
	n.held++
	time.AfterFunc(3*time.Second, func() { n.mu.Lock(); n.held--; n.mu.Unlock() })
	return len(b), nil
}

// TestVanishedClientsLeaveRoom lets two clients disappear during a call, while their peers keep sending. A third client
// remains.
func TestVanishedClientsLeaveRoom(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = time.Hour }, func(b *bubble) {
		at := func(addr string) *turntest.MemConn {
			conn, err := b.net.Bind(netip.MustParseAddrPort(addr))
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		socket := &neighbourhood{MemConn: at("127.0.0.1:5000"), room: 200, gone: make(map[netip.Addr]bool)}
		var serving sync.WaitGroup
		serving.Go(func() { _ = b.server.ServePacket(socket) })
		defer func() { _ = b.server.Close(); serving.Wait() }()

		peer := b.listen()
		call := func(addr string) (*rawClient, netip.AddrPort) {
			c := newRawClient(b, turntest.Connected{MemConn: at(addr), To: socket.Addr}, false)
			relayed := c.allocate()
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
			return c, relayed
		}
		live, toLive := call("127.0.0.2:4000")
		gone, toGone := call("127.0.0.3:4000")
		_, toOther := call("127.0.0.4:4000")
		// second simulates one second of the calls and returns how many of its packets the remaining client received.
		second := func() (got int) {
			for range 50 {
				for _, to := range []netip.AddrPort{toGone, toOther, toGone, toOther, toLive} {
					if _, err := peer.WriteToUDPAddrPort([]byte("media"), to); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(20 * time.Millisecond)
			}
			live.write(turntest.ChannelData(0x4000, "mine"))
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
		for range 20 { // until they are considered gone and the buffer is empty
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
		// A client that returns is served immediately.
		socket.mu.Lock()
		socket.gone = nil
		socket.mu.Unlock()
		for {
			if _, err := gone.tryRead(time.Nanosecond); err != nil {
				break
			}
		}
		gone.write(turntest.ChannelData(0x4000, "here I am"))
		synctest.Wait()
		if !b.reaches(gone, peer, toGone) {
			t.Error("a client that has come back hears nothing")
		}
		if got := b.server.Counters().Dropped[event.DropSend]; got < 60*100*2 {
			t.Errorf("%d packets counted as not sent", got)
		}
	})
}
