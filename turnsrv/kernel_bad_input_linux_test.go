//go:build amd64 || arm64

package turnsrv

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestKernelPathFull has more calls than the kernel has channels for, half of them of one account. All work, and the one account leaves
// channels to the others.
func TestKernelPathFull(t *testing.T) {
	n := inNetwork(t)
	if n == nil {
		return
	}
	const channels, calls = 16, 20
	f := networkFamilies[0]
	secret := credential.NewSecret([]byte(turntest.TestSecret))
	k := serveKernel(t, n, KernelPathOn, func(c *Config) { c.kernelChannels = channels })
	begin := func(account string) *kernelCall {
		client := k.client(t, f)
		client.use(credential.Issuer{Secret: secret, TTL: time.Hour}.IssueFor(account, time.Now()))
		c := k.callFrom(t, client, f, 0x4000)
		for range 5 {
			c.exchange(t, account)
		}
		return c
	}
	var all []*kernelCall
	for range calls {
		all = append(all, begin("greedy"))
	}
	if got := k.Counters().Kernel.Channels; got != channels/2 {
		t.Errorf("one account has %d of %d channels, want half", got, channels)
	}
	all = append(all, begin("another"))
	if got := k.Counters().Kernel.Channels; got != channels/2+1 {
		t.Errorf("%d channels after another account has called, want %d", got, channels/2+1)
	}
	for i := range calls {
		all = append(all, begin(fmt.Sprint("account ", i)))
	}
	if got := k.Counters().Kernel.Channels; got != channels {
		t.Errorf("%d channels, want all %d", got, channels)
	}
	for _, c := range all {
		c.exchange(t, "still")
	}
}

// TestKernelPathBadInput has peers, clients and the network misbehave while a call goes on.
func TestKernelPathBadInput(t *testing.T) {
	n := inNetwork(t)
	if n == nil {
		return
	}
	k := serveKernel(t, n, KernelPathOn)
	f := networkFamilies[0]
	calm := k.call(t, f, 0x4000)
	k.inKernel(t, calm)

	t.Run("large datagrams", func(t *testing.T) {
		for _, f := range networkFamilies {
			c := k.call(t, f, 0x4001)
			k.inKernel(t, c)
			before := k.relayedByKernel(c)
			for _, size := range []int{1473, 3000, 8000} { // in fragments
				c.exchange(t, strings.Repeat("f", size))
			}
			if after := k.relayedByKernel(c); after != before {
				t.Errorf("%s: the kernel has relayed %d fragments", f.name, after-before)
			}
		}
	})
	t.Run("no checksum", func(t *testing.T) {
		c := k.call(t, f, 0x4001)
		k.inKernel(t, c)
		raw, err := c.peer.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var failed error
		if err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) }); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		for range 10 {
			c.exchange(t, "zero")
		}
	})
	t.Run("wrong checksum", func(t *testing.T) {
		c := k.call(t, f, 0x4001)
		k.inKernel(t, c)
		for range 10 {
			sendUDP(t, n, netip.AddrPortFrom(f.peer, c.peer.LocalAddr().(*net.UDPAddr).AddrPort().Port()), c.relayed, []byte("damaged"), 0x1234)
			c.exchange(t, "whole") // and not what is damaged
		}
	})
	t.Run("lengths that contradict each other", func(t *testing.T) {
		c := k.call(t, f, 0x4001)
		k.inKernel(t, c)
		for _, message := range []string{"\x40\x01\x00\x10short", "\x40\x01\xff\xff", "\x40\x01\x00\x01more than one", "\x40\x01\x00", "\x40\x01"} {
			c.client.write([]byte(message))
			c.client.silent()
		}
		if got := c.tryAtPeer(10 * time.Millisecond); got != "m" { // what follows is padding, as for the sockets
			t.Errorf("the peer got %q", got)
		}
		c.exchange(t, "after it")
	})
	t.Run("binding again and again", func(t *testing.T) {
		c := k.call(t, f, 0x4001)
		k.inKernel(t, c)
		busy := k.client(t, f)
		busy.allocate()
		peerConn := n.Listen(t, n.Peer, netip.AddrPortFrom(f.peer, 0))
		to := peerConn.LocalAddr().(*net.UDPAddr).AddrPort()
		for i := range 100 {
			// A new allocation, and a channel that the kernel gets, for each round.
			busy.want(busy.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
			relayed := busy.allocate()
			number := 0x4000 + uint16(i)
			busy.want(busy.request(stun.MethodChannelBind, turntest.Channel(number), turntest.PeerAddr(to)), 0)
			(&kernelCall{client: busy, peer: peerConn, relayed: relayed, number: number}).exchange(t, "round")
			busy.want(busy.request(stun.MethodChannelBind, turntest.Channel(number), turntest.PeerAddr(to)), 0)
			c.exchange(t, "meanwhile")
		}
	})
	t.Run("a neighbour that does not answer", func(t *testing.T) {
		const gone = "198.18.2.7"
		turntest.IP(t, "-n", n.Peer, "addr", "add", gone+"/24", "dev", "veth")
		away := f
		away.peer = netip.MustParseAddr(gone)
		c := k.call(t, away, 0x4001)
		k.inKernel(t, c)
		turntest.IP(t, "-n", n.Peer, "addr", "delete", gone+"/24", "dev", "veth")
		turntest.IP(t, "neigh", "flush", "to", gone)
		for range 50 {
			c.client.write(turntest.ChannelData(c.number, "nobody"))
			calm.exchange(t, "others go on")
		}
		turntest.IP(t, "-n", n.Peer, "addr", "add", gone+"/24", "dev", "veth")
		for start := time.Now(); c.tryAtPeer(10*time.Millisecond) == ""; { // until the system asks for the neighbour again
			if time.Since(start) > patience() {
				t.Fatal("the neighbour stays unknown")
			}
			c.client.write(turntest.ChannelData(c.number, "back"))
		}
		for c.tryAtPeer(10*time.Millisecond) != "" {
		}
		c.exchange(t, "it is back")
	})
	t.Run("jumbo frames", func(t *testing.T) {
		for _, link := range [][]string{{"-n", n.Client, "link", "set", "veth"}, {"-n", n.Peer, "link", "set", "veth"}, {"link", "set", "veth1"}, {"link", "set", "veth2"}} {
			turntest.IP(t, append(link, "mtu", "9000")...)
		}
		c := k.call(t, f, 0x4001)
		k.inKernel(t, c)
		before := k.relayedByKernel(c)
		for range 10 {
			c.exchange(t, strings.Repeat("j", 8000))
		}
		if after := k.relayedByKernel(c); after != before+20 {
			t.Errorf("the kernel has relayed %d of 20 jumbo frames", after-before)
		}
		// They do not fit on the client's side any more, and the sockets get the very next one.
		turntest.IP(t, "-n", n.Client, "link", "set", "veth", "mtu", "1500")
		turntest.IP(t, "link", "set", "veth1", "mtu", "1500")
		for range 5 {
			c.exchange(t, strings.Repeat("j", 8000))
		}
	})
	calm.exchange(t, "at last")
}

// sendUDP sends an IPv4 packet with a UDP datagram whose checksum is given, from the host of the peers.
func sendUDP(t *testing.T, n *turntest.Network, from, to netip.AddrPort, payload []byte, checksum uint16) {
	t.Helper()
	n.In(t, n.Peer, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		b := binary.BigEndian.AppendUint16(nil, from.Port())
		b = binary.BigEndian.AppendUint16(b, to.Port())
		b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
		b = append(binary.BigEndian.AppendUint16(b, checksum), payload...)
		if err := unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()}); err != nil {
			t.Error(err)
		}
	})
}
