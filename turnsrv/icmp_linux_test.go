package turnsrv

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// icmpConfig is a configuration with relay addresses of both families on loopback.
func icmpConfig(t testing.TB) Config {
	return familiesConfig(t, relay.Address{Bind: turntest.Loopback, Advertise: turntest.Loopback},
		relay.Address{Bind: turntest.Loopback6, Advertise: turntest.Loopback6})
}

// closedPort returns an address on which nobody listens.
func closedPort(t testing.TB, host netip.Addr) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return udp.AddrPortOf(conn.LocalAddr())
}

// wantICMP fails the test unless the next message is an ICMP error about a peer.
func (c *rawClient) wantICMP(peer netip.AddrPort, want stun.ICMP) {
	c.t.Helper()
	m := c.parse(c.read())
	if m.Method != stun.MethodData || m.Class != stun.ClassIndication {
		c.t.Fatalf("got %v class %d, want a Data indication", m.Method, m.Class)
	}
	var got []byte
	for typ, value := range m.Attributes() {
		switch typ {
		case stun.AttrXORPeerAddress:
			if addr, err := stun.ParseXORAddress(value, m.TransactionID); err != nil || addr != peer {
				c.t.Errorf("the peer is %v, %v, want %v", addr, err, peer)
			}
		case stun.AttrICMP:
			got = value
		default:
			c.t.Errorf("unexpected attribute %#04x", typ)
		}
	}
	code := uint16(want.Type)<<9 | uint16(want.Code)
	if wire := fmt.Sprintf("0000%04x%08x", code, want.Data); fmt.Sprintf("%x", got) != wire {
		c.t.Errorf("ICMP is %x, want %s", got, wire)
	}
}

// TestICMP sends to peers whose host refuses the packets: the client learns it (RFC 8656 section 11.5), whichever way it sends and
// is connected, and packets to other peers are not lost.
func TestICMP(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		for _, host := range []netip.Addr{turntest.Loopback, turntest.Loopback6} {
			t.Run(fmt.Sprint(network, " ", host), func(t *testing.T) {
				server := startServer(t, icmpConfig(t))
				addr, want, of := server.udp, stun.ICMP{Type: 3, Code: 3}, stun.IPv4
				if network == "tcp" {
					addr = server.tcp
				}
				if host.Is6() {
					want, of = stun.ICMP{Type: 1, Code: 4}, stun.IPv6
				}
				c := dial(t, network, addr)
				c.allocate(family(of))
				gone, bound, live := closedPort(t, host), closedPort(t, host), udp.AddrPortOf(echoOn(t, host))
				c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(gone)), 0)
				c.write(c.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(gone), turntest.Attr(stun.AttrData, 'x')))
				c.wantICMP(gone, want)
				c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(bound)), 0)
				c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4001), turntest.PeerAddr(live)), 0)
				c.write(turntest.ChannelData(0x4000, "x"))
				c.wantICMP(bound, want)
				c.write(turntest.ChannelData(0x4001, "y"))
				if _, data, err := stun.ParseChannelData(c.read()); err != nil || string(data) != "y" {
					t.Errorf("got %q, %v after an ICMP error", data, err)
				}
				if got := server.Counters().ICMP; got != 2 {
					t.Errorf("%d ICMP errors are counted, want 2", got)
				}
			})
		}
	}
}

// TestForgedICMP forges ICMP errors for a relayed address. The client gets what a router may send about a packet to a permitted peer, at a
// bounded rate, and nothing else.
func TestForgedICMP(t *testing.T) {
	inOwnNetwork(t, "loopback", testForgedICMP) // the system believes the forged MTU
}

func testForgedICMP(t *testing.T) {
	router, err := net.Dial("ip4:icmp", turntest.Loopback.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = router.Close() }()
	server := startServer(t, icmpConfig(t))
	c := dial(t, "udp", server.udp)
	relayed := c.allocate()
	peer := netip.AddrPortFrom(turntest.Loopback, 9)
	c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(peer)), 0)
	forge := func(typ, code byte, data uint32, from, to netip.AddrPort) {
		t.Helper()
		if _, err := router.Write(icmp4(typ, code, data, from, to)); err != nil {
			t.Fatal(err)
		}
	}
	stranger := netip.MustParseAddrPort("127.0.0.2:9")
	forge(3, 3, 0, relayed, stranger) // without a permission
	forge(12, 0, 0, relayed, peer)    // a type that is not passed on
	forge(5, 1, 0, relayed, peer)
	forge(11, 0, 7, relayed, peer) // the first one that is; its data is not
	c.wantICMP(peer, stun.ICMP{Type: 11})
	c.silent()
	// A router on the way says how long a packet may be.
	c.write(c.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(netip.AddrPortFrom(turntest.Loopback, udp.AddrPortOf(echo(t)).Port())),
		turntest.Attr(stun.AttrDontFragment), turntest.Attr(stun.AttrData, 'x')))
	c.parse(c.read())
	forge(3, 4, 1280, relayed, peer)
	c.wantICMP(peer, stun.ICMP{Type: 3, Code: 4, Data: 1280})
	for range 200 {
		forge(3, 1, 0, relayed, peer)
	}
	got := 0
	for ; ; got++ {
		if _, err := c.tryRead(100 * time.Millisecond); err != nil {
			break
		}
	}
	if got < 5 || got > 15 {
		t.Errorf("%d of 200 forged errors reached the client, want about 10", got)
	}
}

// icmp4 builds an ICMP error about a UDP datagram.
func icmp4(typ, code byte, data uint32, from, to netip.AddrPort) []byte {
	b := []byte{typ, code, 0, 0}
	b = binary.BigEndian.AppendUint32(b, data)
	source, destination := from.Addr().As4(), to.Addr().As4()
	b = append(b, 0x45, 0, 0, 29, 0, 0, 0x40, 0, 64, 17, 0, 0)
	b = append(append(b, source[:]...), destination[:]...)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = append(b, 0, 9, 0, 0, 'x')
	var sum uint32
	for i := 0; i < len(b)-1; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[2:], ^uint16(sum))
	return b
}
