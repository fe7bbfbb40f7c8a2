package turnsrv

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// natRelay is a relay behind a NAT, whose sockets refuse to send.
func natRelay(t testing.TB) *relay.Allocator {
	public := netip.MustParseAddr("203.0.113.7")
	return turntest.TestRelay(t, relay.Config{
		Addresses: []relay.Address{{Bind: turntest.Loopback, Advertise: public}},
		Peers:     peer.New(peer.Rules{Own: []netip.Addr{turntest.Loopback, public}}),
		Listen: func(network string, addr netip.AddrPort) (relay.Socket, error) {
			socket, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
			return unwritable{socket}, err
		},
	})
}

type unwritable struct{ *net.UDPConn }

func (unwritable) WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error) {
	return 0, errors.New("not through the kernel")
}

// caller is one end of a call through two relayed addresses.
type caller struct {
	*rawClient
	relayed netip.AddrPort
}

// call makes an allocation for each of two clients and binds a channel to the other client's relayed address.
func call(a, b *rawClient) (near, far caller) {
	near, far = caller{a, a.allocate()}, caller{b, b.allocate()}
	a.want(a.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(far.relayed)), 0)
	b.want(b.request(stun.MethodChannelBind, turntest.Channel(0x4001), turntest.PeerAddr(near.relayed)), 0)
	return near, far
}

// Two allocations send to each other as fast as they can, over each pair of transports. In the meantime other allocations are
// made, send to one of them, which the permission for the server's address allows, and end.
func TestRelayToRelayAtFullSpeed(t *testing.T) {
	for _, networks := range [][2]string{{"udp", "udp"}, {"udp", "tcp"}, {"tcp", "tcp"}} {
		t.Run(networks[0]+" to "+networks[1], func(t *testing.T) {
			config := testConfig(t)
			config.Relay = natRelay(t)
			server := startServer(t, config)
			client := func(network string) *rawClient {
				if network == "tcp" {
					return dial(t, network, server.tcp)
				}
				return dial(t, network, server.udp)
			}
			near, far := call(client(networks[0]), client(networks[1]))

			const packets, window = 2000, 32 // fits in a small receive buffer: nothing may be lost
			var all sync.WaitGroup
			failed, fail := context.WithCancel(t.Context())
			defer fail()
			arrived := []chan struct{}{make(chan struct{}, window), make(chan struct{}, window)}
			for i, c := range []caller{near, far} {
				number := uint16(0x4000 + i)
				all.Go(func() {
					for n := range uint32(packets) {
						select {
						case arrived[i] <- struct{}{}:
						case <-failed.Done():
							return
						}
						payload := make([]byte, 4+n%1000)
						binary.BigEndian.PutUint32(payload, n)
						if _, err := c.conn.Write(turntest.ChannelData(number, string(payload))); err != nil {
							t.Error(err)
							return
						}
					}
				})
				all.Go(func() {
					for n := uint32(0); n < packets; {
						b, err := c.tryRead(10 * time.Second)
						if err != nil || b == nil {
							t.Errorf("after %d packets: %v", n, err)
							fail()
							return
						}
						if !stun.IsChannelData(b[0]) {
							if m, err := stun.Parse(b); err != nil || m.Method != stun.MethodData {
								t.Errorf("got %x, %v", b, err)
							}
							continue // of the others
						}
						got, data, err := stun.ParseChannelData(b)
						if err != nil || uint16(got) != number || len(data) != int(4+n%1000) || binary.BigEndian.Uint32(data) != n {
							t.Errorf("got %x, want packet %d", b, n)
							fail()
							return
						}
						n++
						<-arrived[1-i]
					}
				})
			}
			others := client("tcp") // their requests must not be lost in a full buffer
			for range 20 {
				others.allocate()
				others.want(others.request(stun.MethodCreatePermission, turntest.PeerAddr(near.relayed)), 0)
				for range 10 {
					others.write(others.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(near.relayed),
						turntest.Attr(stun.AttrData, 'x')))
				}
				others.want(others.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
			}
			all.Wait()
			if err := server.Close(); err != nil {
				t.Fatal(err)
			}
			got := server.Counters()
			if got.ToPeer != got.ToClient || got.ToPeer.Packets == 0 {
				t.Errorf("to peers %+v, to clients %+v, want the same", got.ToPeer, got.ToClient)
			}
		})
	}
}

// The permissions and channels of the receiving allocation apply.
func TestRelayToRelayPermissions(t *testing.T) {
	config := testConfig(t)
	config.Relay = natRelay(t)
	server := startServer(t, config)
	alice, bob := dial(t, "udp", server.udp), dial(t, "tcp", server.tcp)
	fromAlice, fromBob := alice.allocate(), bob.allocate()
	send := func(text string) {
		alice.write(alice.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(fromBob),
			turntest.Attr(stun.AttrData, []byte(text)...)))
	}
	alice.want(alice.request(stun.MethodCreatePermission, turntest.PeerAddr(fromBob)), 0)
	send("too early")
	alice.silent()
	if got := server.Counters(); got.Dropped[event.DropPeerNoPermission] != 1 || got.ToClient.Packets != 0 {
		t.Errorf("counters %+v, want one packet without a permission", got)
	}
	bob.want(bob.request(stun.MethodCreatePermission, turntest.PeerAddr(fromAlice)), 0)
	for _, text := range []string{"", "x", "hello bob"} {
		send(text)
		m := bob.parse(bob.read())
		attrs := maps.Collect(m.Attributes())
		from, err := stun.ParseXORAddress(attrs[stun.AttrXORPeerAddress], m.TransactionID)
		if m.Method != stun.MethodData || m.Class != stun.ClassIndication || m.TransactionID == (stun.TransactionID{}) ||
			err != nil || from != fromAlice || string(attrs[stun.AttrData]) != text {
			t.Errorf("bob got %v %d with %q from %v, want %q from %v", m.Method, m.Class, attrs[stun.AttrData], from, text, fromAlice)
		}
	}
	bob.want(bob.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(fromAlice)), 0)
	send("hello")
	if got, want := bob.read(), turntest.ChannelData(0x4000, "hello"); string(got) != string(want) {
		t.Errorf("bob got %q, want %q", got, want)
	}
	// Data that exceeds a datagram arrives over a stream and is dropped.
	bob.write(turntest.ChannelData(0x4000, string(make([]byte, 65535))))
	bob.want(bob.request(stun.MethodRefresh), 0)
	if got := server.Counters().Dropped[event.DropOversize]; got != 1 {
		t.Errorf("%d dropped for their size, want 1", got)
	}
	// An allocation that sends to its own relayed address.
	alice.want(alice.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(fromAlice)), 0)
	alice.write(turntest.ChannelData(0x4000, "hello me"))
	if got, want := alice.read(), turntest.ChannelData(0x4000, "hello me")[:12]; string(got) != string(want) {
		t.Errorf("alice got %q, want %q", got, want)
	}
}
