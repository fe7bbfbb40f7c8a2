package turnsrv

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// marked is a UDP socket that sets and reads traffic classes.
type marked struct {
	*net.UDPConn
	ipv4 bool
}

func newMarked(t *testing.T, conn *net.UDPConn) marked {
	t.Helper()
	m := marked{conn, udp.AddrPortOf(conn.LocalAddr()).Addr().Is4()}
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	level, option := unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS
	if m.ipv4 {
		level, option = unix.IPPROTO_IP, unix.IP_RECVTOS
	}
	failed := error(nil)
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, 1) })
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return m
}

// send sends a datagram with a class. to is invalid if the socket is connected.
func (m marked) send(t *testing.T, b []byte, class byte, to netip.AddrPort) {
	t.Helper()
	m.setClass(t, class)
	var err error
	if to.IsValid() {
		_, err = m.WriteToUDPAddrPort(b, to)
	} else {
		_, err = m.Write(b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// setClass sets the class of what is sent from now on.
func (m marked) setClass(t *testing.T, class byte) {
	t.Helper()
	raw, err := m.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	level, option := unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	if m.ipv4 {
		level, option = unix.IPPROTO_IP, unix.IP_TOS
	}
	failed := error(nil)
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, int(class)) })
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

// read returns the next datagram with its class.
func (m marked) read(t *testing.T) (data []byte, class byte, from netip.AddrPort) {
	t.Helper()
	b, control := make([]byte, 2000), make([]byte, 100)
	_ = m.SetReadDeadline(time.Now().Add(patience()))
	n, controlLen, _, from, err := m.ReadMsgUDPAddrPort(b, control)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	if err != nil || len(messages) != 1 {
		t.Fatalf("control messages %v, %v", messages, err)
	}
	return b[:n], messages[0].Data[0], from
}

// TestTrafficClass checks that packets keep DSCP and ECN in both directions, in batches too, between all families, and through two
// relayed addresses of one server (RFC 8656 sections 14 and 15), and that responses do not repeat a congestion mark.
func TestTrafficClass(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	config := testConfig(t)
	config.Workers = 2
	config.Relay = turntest.TestRelay(t, relay.Config{
		Addresses: []relay.Address{turntest.Address4, turntest.Address6}, Peers: peer.New(peer.Rules{Allow: local}),
	})
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	const expedited, congested = 46 << 2, 3
	classes := []byte{0, expedited, expedited, expedited | congested, 1, 0, 8 << 2}
	for _, tt := range []struct{ listen, server, peer string }{
		{"127.0.0.1:0", "127.0.0.1", "127.0.0.1"},
		{"127.0.0.1:0", "127.0.0.1", "::1"},
		{"[::1]:0", "::1", "127.0.0.1"},
		{"[::]:0", "127.0.0.1", "127.0.0.1"}, // IPv4 through an IPv6 socket
		{"[::]:0", "::1", "::1"},
	} {
		t.Run(fmt.Sprintf("%s at %s to %s", tt.server, tt.listen, tt.peer), func(t *testing.T) {
			listener, err := net.ListenPacket("udp", tt.listen)
			if err != nil {
				t.Fatal(err)
			}
			at := netip.AddrPortFrom(netip.MustParseAddr(tt.server), udp.AddrPortOf(listener.LocalAddr()).Port())
			serving.Go(func() { _ = server.ServePacket(listener) })
			family := turntest.Attr(stun.AttrRequestedAddressFamily, byte(stun.FamilyOf(netip.MustParseAddr(tt.peer))), 0, 0, 0)
			client := dial(t, "udp", at)
			relayed := client.allocate(family)
			near := newMarked(t, client.conn.(*net.UDPConn))
			conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(tt.peer), 0)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			far := newMarked(t, conn)
			client.want(client.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(udp.AddrPortOf(conn.LocalAddr()))), 0)
			for _, class := range classes {
				near.send(t, turntest.ChannelData(0x4000, "to the peer"), class, netip.AddrPort{})
			}
			for i, want := range classes {
				if _, class, from := far.read(t); class != want || from != relayed {
					t.Errorf("packet %d to the peer has class %#x, want %#x", i, class, want)
				}
			}
			for _, class := range classes {
				far.send(t, []byte("to the client"), class, relayed)
			}
			for i, want := range classes {
				if _, class, _ := near.read(t); class != want {
					t.Errorf("packet %d to the client has class %#x, want %#x", i, class, want)
				}
			}
			near.send(t, client.message(stun.MethodBinding, stun.ClassRequest), expedited|congested, netip.AddrPort{})
			if _, class, _ := near.read(t); class != 0 {
				t.Errorf("the response to a request has class %#x, want 0", class)
			}
			near.send(t, nil, 0, netip.AddrPort{})

			other := dial(t, "udp", at)
			a, b := caller{client, relayed}, caller{other, other.allocate(family)}
			a.want(a.request(stun.MethodChannelBind, turntest.Channel(0x4001), turntest.PeerAddr(b.relayed)), 0)
			b.want(b.request(stun.MethodChannelBind, turntest.Channel(0x4001), turntest.PeerAddr(a.relayed)), 0)
			end := newMarked(t, other.conn.(*net.UDPConn))
			for _, want := range classes {
				near.send(t, turntest.ChannelData(0x4001, "to the other client"), want, netip.AddrPort{})
				if _, class, _ := end.read(t); class != want {
					t.Errorf("a packet to the other client has class %#x, want %#x", class, want)
				}
			}
		})
	}
}

// classes is the socket of a DTLS client that notes the classes of the datagrams that it has received.
type classes struct {
	marked
	t    *testing.T
	last atomic.Int32
}

func (c *classes) ReadFrom(b []byte) (int, net.Addr, error) {
	control := make([]byte, 100)
	n, controlLen, _, from, err := c.ReadMsgUDPAddrPort(b, control)
	if err != nil {
		return n, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	if err != nil || len(messages) != 1 {
		c.t.Errorf("control messages %v, %v", messages, err)
		return n, nil, err
	}
	c.last.Store(int32(messages[0].Data[0]))
	return n, net.UDPAddrFromAddrPort(from), nil
}

// TestTrafficClassOfDTLS checks that data of a client over DTLS, and data for it, keep their class, as over UDP.
func TestTrafficClassOfDTLS(t *testing.T) {
	config := testConfig(t)
	config.Workers = 1
	_, addr := startDTLS(t, config, "127.0.0.1", true)
	near := &classes{marked: newMarked(t, turntest.ClientSocket(t)), t: t}
	conn, err := handshake(t, near, addr)
	if err != nil {
		t.Fatal(err)
	}
	c := newRawClient(t, conn, false)
	relayed := c.allocate()
	far := newMarked(t, turntest.ClientSocket(t))
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(udp.AddrPortOf(far.LocalAddr()))), 0)
	if class := near.last.Load(); class != 0 {
		t.Errorf("a response has class %#x, want 0", class)
	}
	for _, class := range []byte{46<<2 | 1, 46<<2 | 3, 0, 10 << 2} {
		near.setClass(t, class)
		c.write(turntest.ChannelData(0x4000, "to the peer"))
		if _, got, _ := far.read(t); got != class {
			t.Errorf("a packet to the peer has class %#x, want %#x", got, class)
		}
		far.send(t, []byte("to the client"), class, relayed)
		if c.read(); near.last.Load() != int32(class) {
			t.Errorf("a packet to the client has class %#x, want %#x", near.last.Load(), class)
		}
	}
}

// TestTrafficClassOfStreams checks that neither the class of a client's TCP connection reaches the peer, nor that of the peer's packets
// the connection (RFC 8656 sections 15 and 16). A client over UDP whose packets have a class makes no difference.
func TestTrafficClassOfStreams(t *testing.T) {
	config := testConfig(t)
	config.Workers = 1
	server := startServer(t, config)
	const expedited = 46 << 2
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	far := newMarked(t, conn)
	peerAddr := turntest.PeerAddr(udp.AddrPortOf(conn.LocalAddr()))
	bind := func(network string, at netip.AddrPort) (client *rawClient, relayed netip.AddrPort) {
		client = dial(t, network, at)
		relayed = client.allocate()
		client.want(client.request(stun.MethodChannelBind, turntest.Channel(0x4000), peerAddr), 0)
		return client, relayed
	}
	other, _ := bind("udp", server.udp)
	client, relayed := bind("tcp", server.tcp)
	raw, err := client.conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	class := func(fd int) (class int) {
		if class, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS); err != nil {
			t.Error(err)
		}
		return class
	}
	if err := raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, expedited); err != nil || class(int(fd)) != expedited {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	near := newMarked(t, other.conn.(*net.UDPConn))
	for range 3 {
		near.send(t, turntest.ChannelData(0x4000, "over UDP"), expedited|1, netip.AddrPort{})
		if _, class, _ := far.read(t); class != expedited|1 {
			t.Errorf("a packet of the client over UDP has class %#x", class)
		}
		client.write(turntest.ChannelData(0x4000, "over TCP"))
		if data, class, from := far.read(t); string(data) != "over TCP" || class != 0 || from != relayed {
			t.Errorf("%q of the client over TCP has class %#x", data, class)
		}
		far.send(t, []byte("to the client"), expedited|3, relayed)
		if got := client.read(); len(got) < 4 || got[0] != 0x40 {
			t.Errorf("the client got %x", got)
		}
	}
}
