//go:build amd64 || arm64

package turnsrv

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// inNetwork runs the rest of the calling test again, in the namespace of the server of a new network of three hosts, because the
// threads of a server must all be in one. It returns nil where that rest has already run.
func inNetwork(t *testing.T) *turntest.Network {
	t.Helper()
	if names := os.Getenv("MAILTURN_TEST_NETWORK"); names != "" {
		n := &turntest.Network{}
		_, err := fmt.Sscan(names, &n.Client, &n.Server, &n.Peer)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := TryKernelPath(); errors.Is(err, fs.ErrPermission) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	n := turntest.NewNetwork(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "ip", "netns", "exec", n.Server, program, "-test.run", "^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), "MAILTURN_TEST_NETWORK="+strings.Join([]string{n.Client, n.Server, n.Peer}, " "))
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
	return nil
}

// networkFamily has the addresses of the network of one family.
type networkFamily struct {
	name                        string
	server, relay, client, peer netip.Addr
	subnet                      int // bits
	request                     stun.Family
}

var networkFamilies = []networkFamily{
	{"IPv4", netip.MustParseAddr("198.18.1.1"), netip.MustParseAddr("198.18.2.1"), netip.MustParseAddr("198.18.1.2"), netip.MustParseAddr("198.18.2.2"), 24, stun.IPv4},
	{"IPv6", netip.MustParseAddr("fd18:1::1"), netip.MustParseAddr("fd18:2::1"), netip.MustParseAddr("fd18:1::2"), netip.MustParseAddr("fd18:2::2"), 64, stun.IPv6},
}

// kernelServer is a server in the namespace of this process, whose kernel relays.
type kernelServer struct {
	*Server
	network   *turntest.Network
	allocator *relay.Allocator

	mu    sync.Mutex
	ended []event.Event
}

// lab allows the addresses of the network, which are special ones.
func lab(deny ...string) *peer.Policy {
	rules := peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("fd18::/16")}}
	for _, prefix := range deny {
		rules.Deny = append(rules.Deny, netip.MustParsePrefix(prefix))
	}
	return peer.New(rules)
}

// serveKernel starts a server on port 3478 of all addresses.
func serveKernel(t *testing.T, n *turntest.Network, path KernelPath, change ...func(*Config)) *kernelServer {
	t.Helper()
	k := &kernelServer{network: n}
	addresses := []relay.Address{}
	for _, f := range networkFamilies {
		addresses = append(addresses, relay.Address{Bind: f.relay, Advertise: f.relay})
	}
	var err error
	if k.allocator, err = relay.New(relay.Config{Addresses: addresses, Peers: lab()}); err != nil {
		t.Fatal(err)
	}
	config := Config{
		Realm: turntest.TestRealm, Relay: k.allocator, KernelPath: path,
		Authenticator: credential.Verifier{Secrets: []credential.Secret{credential.NewSecret([]byte(turntest.TestSecret))}},
		OnEvent: func(e event.Event) {
			if e.Kind == event.AllocationEnded {
				k.mu.Lock()
				defer k.mu.Unlock()
				k.ended = append(k.ended, e)
			}
		},
	}
	for _, change := range change {
		change(&config)
	}
	if k.Server, err = New(config); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: 3478})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = k.ServePacket(conn) })
	t.Cleanup(func() {
		if err := errors.Join(k.Close(), k.allocator.Close()); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return k
}

// client returns a client with a socket in the namespace of the clients.
func (k *kernelServer) client(t *testing.T, f networkFamily) *rawClient {
	t.Helper()
	var conn *net.UDPConn
	var err error
	k.network.In(t, k.network.Client, func() {
		conn, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.client, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.server, 3478)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return newRawClient(t, conn, false)
}

// kernelCall is a client with an allocation and a channel to a peer.
type kernelCall struct {
	client  *rawClient
	peer    *net.UDPConn
	relayed netip.AddrPort
	number  uint16
}

func (k *kernelServer) call(t *testing.T, f networkFamily, number uint16) *kernelCall {
	t.Helper()
	return k.callFrom(t, k.client(t, f), f, number)
}

// callFrom is call for a client that has no allocation yet.
func (k *kernelServer) callFrom(t *testing.T, client *rawClient, f networkFamily, number uint16) *kernelCall {
	t.Helper()
	c := &kernelCall{client: client, peer: k.network.Listen(t, k.network.Peer, netip.AddrPortFrom(f.peer, 0)), number: number}
	c.relayed = c.client.allocate(turntest.Attr(stun.AttrRequestedAddressFamily, byte(f.request), 0, 0, 0))
	c.bind(f)
	return c
}

func (c *kernelCall) bind(f networkFamily) {
	to := netip.AddrPortFrom(f.peer, c.peer.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	c.client.want(c.client.request(stun.MethodChannelBind, turntest.Channel(c.number), turntest.PeerAddr(to)), 0)
}

// exchange sends a message each way, and wants it to arrive.
func (c *kernelCall) exchange(t *testing.T, text string) {
	t.Helper()
	c.client.write(turntest.ChannelData(c.number, text))
	c.atPeer(t, text)
	if _, err := c.peer.WriteToUDPAddrPort([]byte(text), c.relayed); err != nil {
		t.Fatal(err)
	}
	got := c.client.read()
	if want := turntest.ChannelData(c.number, text)[:4+len(text)]; string(got[:min(len(got), len(want))]) != string(want) {
		t.Fatalf("the client got %q, want %q", got, want)
	}
}

func (c *kernelCall) atPeer(t *testing.T, text string) {
	t.Helper()
	b := make([]byte, 10000)
	_ = c.peer.SetReadDeadline(time.Now().Add(patience()))
	n, from, err := c.peer.ReadFromUDPAddrPort(b)
	if err != nil || string(b[:n]) != text || netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) != c.relayed {
		t.Fatalf("the peer got %q from %v (%v), want %q from %v", b[:n], from, err, text, c.relayed)
	}
}

// inKernel exchanges messages until the kernel relays them in both directions.
func (k *kernelServer) inKernel(t *testing.T, c *kernelCall) {
	t.Helper()
	for start := time.Now(); ; {
		before := k.relayedByKernel(c)
		c.exchange(t, "hello")
		if k.relayedByKernel(c) == before+2 {
			return
		}
		if time.Since(start) > patience() {
			t.Fatalf("the kernel does not relay: %+v", k.Counters().Kernel)
		}
	}
}

// relayedByKernel returns how many packets the kernel has relayed, up to now, because the sessions count when they are inspected.
func (k *kernelServer) relayedByKernel(c *kernelCall) uint64 {
	c.client.t.Helper()
	if _, err := k.Sessions(c.client.t.Context()); err != nil {
		c.client.t.Fatal(err)
	}
	counters := k.Counters().Kernel
	return counters.ToPeer.Packets + counters.ToClient.Packets
}

// TestKernelPath has a server relay in the kernel between three hosts, and takes away what allowed it: afterwards the sockets decide.
func TestKernelPath(t *testing.T) {
	n := inNetwork(t)
	if n == nil {
		return
	}
	k := serveKernel(t, n, KernelPathOn)
	if used, problem := k.KernelPath(); !used || problem != nil {
		t.Fatalf("in use: %v (%v)", used, problem)
	}
	for _, f := range networkFamilies {
		t.Run(f.name, func(t *testing.T) {
			start := k.Counters()
			c := k.call(t, f, 0x4000)
			if n := k.Counters().Kernel.Channels; n != 0 {
				t.Errorf("%d channels before the peer has answered", n)
			}
			k.inKernel(t, c)
			for i := range 200 {
				c.exchange(t, strings.Repeat("x", i*7))
			}
			if got := k.relayedByKernel(c); got < 400 {
				t.Errorf("the kernel has relayed %d packets, want 400 and more: %+v", got, k.Counters().Kernel)
			}
			if n := k.Counters().Kernel.Channels; n != 1 {
				t.Errorf("%d channels, want 1", n)
			}

			// A policy that refuses the peer.
			k.allocator.SetPeers(lab(f.peer.String() + map[bool]string{true: "/32", false: "/128"}[f.peer.Is4()]))
			if err := k.WithdrawFromKernel(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.client.write(turntest.ChannelData(c.number, "refused"))
			c.client.silent()
			k.allocator.SetPeers(lab())
			c.client.write(turntest.ChannelData(c.number, "allowed"))
			c.atPeer(t, "allowed") // and not what was refused

			// The counts of the end are exact.
			c.client.want(c.client.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
			if _, err := c.peer.WriteToUDPAddrPort([]byte("late"), c.relayed); err != nil {
				t.Fatal(err)
			}
			c.client.silent()
			k.mu.Lock()
			last := k.ended[len(k.ended)-1]
			k.mu.Unlock()
			end := k.Counters()
			if sent := end.ToPeer.Packets - start.ToPeer.Packets; last.ToPeer.Packets != sent || last.ToClient.Packets != sent-1 {
				t.Errorf("the allocation has relayed %d and %d packets, want %d and %d", last.ToPeer.Packets, last.ToClient.Packets, sent, sent-1)
			}
			if n := end.Kernel.Channels; n != 0 {
				t.Errorf("%d channels after the end", n)
			}
		})
	}
}

// TestKernelPathDisconnect ends a call as an operator does: the kernel relays nothing of it afterwards.
func TestKernelPathDisconnect(t *testing.T) {
	n := inNetwork(t)
	if n == nil {
		return
	}
	k := serveKernel(t, n, KernelPathOn)
	c := k.call(t, networkFamilies[0], 0x4000)
	k.inKernel(t, c)
	ended, err := k.Disconnect(t.Context(), func(event.Allocation) bool { return true })
	if err != nil || len(ended) != 1 {
		t.Fatalf("%d ended (%v)", len(ended), err)
	}
	c.client.write(turntest.ChannelData(c.number, "late"))
	c.client.silent()
	_ = c.peer.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if got, err := c.peer.Read(make([]byte, 100)); err == nil {
		t.Errorf("the peer got %d bytes", got)
	}
}

// TestKernelPathBothHere has two clients of one server call each other: the kernel relays in one step, and stops when one hangs up.
func TestKernelPathBothHere(t *testing.T) {
	n := inNetwork(t)
	if n == nil {
		return
	}
	k := serveKernel(t, n, KernelPathOn)
	for _, f := range networkFamilies {
		t.Run(f.name, func(t *testing.T) {
			one, two := k.client(t, f), k.client(t, f)
			one.skipICMP = true // about the packet to the address of the one that hung up
			family := turntest.Attr(stun.AttrRequestedAddressFamily, byte(f.request), 0, 0, 0)
			oneAt, twoAt := one.allocate(family), two.allocate(family)
			const toTwo, toOne = 0x4001, 0x4002
			one.want(one.request(stun.MethodChannelBind, turntest.Channel(toTwo), turntest.PeerAddr(twoAt)), 0)
			two.want(two.request(stun.MethodChannelBind, turntest.Channel(toOne), turntest.PeerAddr(oneAt)), 0)
			exchange := func(text string) {
				t.Helper()
				one.write(turntest.ChannelData(toTwo, text))
				if got, want := two.read(), turntest.ChannelData(toOne, text); string(got[4:4+len(text)]) != text || string(got[:4]) != string(want[:4]) {
					t.Fatalf("two got %q, want %q", got, want)
				}
				two.write(turntest.ChannelData(toOne, text))
				if got, want := one.read(), turntest.ChannelData(toTwo, text); string(got[4:4+len(text)]) != text || string(got[:4]) != string(want[:4]) {
					t.Fatalf("one got %q, want %q", got, want)
				}
			}
			before := k.relayedByKernel(&kernelCall{client: one})
			for i := range 300 {
				exchange(strings.Repeat("y", i*4))
			}
			// Each packet counts for both: as one from the first, and as one to the second.
			if got := k.relayedByKernel(&kernelCall{client: one}) - before; got < 2*500 {
				t.Errorf("the kernel has relayed %d of 1200: %+v", got, k.Counters().Kernel)
			}
			two.want(two.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
			one.write(turntest.ChannelData(toTwo, "late"))
			one.silent()
			two.silent()
		})
	}
}

// TestKernelPathNAT has netfilter rewrite the packets of a call. The kernel must not relay what the rules would rewrite: the call
// goes on through the sockets.
func TestKernelPathNAT(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil && os.Getenv("MAILTURN_E2E") == "" {
		t.Skip("requires nft(8) of nftables")
	}
	n := inNetwork(t)
	if n == nil {
		return
	}
	f := networkFamilies[0]
	// Packets from the relay seem to come from another address of this machine, to which the peer answers.
	c := exec.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader("table ip nat { chain post { type nat hook postrouting priority 100; oifname veth2 snat to 198.18.2.50; }; }\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	turntest.IP(t, "addr", "add", "198.18.2.50/24", "dev", "veth2")
	k := serveKernel(t, n, KernelPathOn)
	client := k.client(t, f)
	peerConn := n.Listen(t, n.Peer, netip.AddrPortFrom(f.peer, 0))
	client.allocate(turntest.Attr(stun.AttrRequestedAddressFamily, byte(f.request), 0, 0, 0))
	to := netip.AddrPortFrom(f.peer, peerConn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	client.want(client.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(to)), 0)
	b := make([]byte, 100)
	for i := range 50 {
		text := fmt.Sprint("hello ", i)
		client.write(turntest.ChannelData(0x4000, text))
		_ = peerConn.SetReadDeadline(time.Now().Add(patience()))
		size, from, err := peerConn.ReadFromUDPAddrPort(b)
		if err != nil || string(b[:size]) != text || from.Addr().Unmap() != netip.MustParseAddr("198.18.2.50") {
			t.Fatalf("the peer got %q from %v (%v)", b[:size], from, err)
		}
		if _, err := peerConn.WriteToUDPAddrPort([]byte(text), from); err != nil {
			t.Fatal(err)
		}
		if got := client.read(); string(got[4:4+len(text)]) != text {
			t.Fatalf("the client got %q", got)
		}
	}
	counters := k.Counters().Kernel
	if counters.ToPeer.Packets+counters.ToClient.Packets != 0 || counters.PassedUp["unproven"] == 0 {
		t.Errorf("the kernel has relayed: %+v", counters)
	}
	if nat, err := KernelPathNAT(); !nat || err != nil {
		t.Errorf("rules of NAT were found: %v (%v)", nat, err)
	}
}

// TestKernelPathLimits checks that the kernel relays no more than the quotas allow, which change while it relays.
func TestKernelPathLimits(t *testing.T) {
	n := inNetwork(t)
	if n == nil {
		return
	}
	k := serveKernel(t, n, KernelPathOn)
	c := k.call(t, networkFamilies[0], 0x4000)
	k.inKernel(t, c)
	const perSecond = 50
	k.SetQuotas(limit.Quotas{MaxPPS: perSecond})
	if err := k.WithdrawFromKernel(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	arrived, dropped := 0, k.Counters().Dropped[event.DropBandwidth]
	start := time.Now()
	for i := range 2000 {
		c.client.write(turntest.ChannelData(c.number, "limited"))
		if i%50 == 49 {
			for c.peer.SetReadDeadline(time.Now().Add(5*time.Millisecond)) == nil {
				if _, err := c.peer.Read(b); err != nil {
					break
				}
				arrived++
			}
		}
	}
	// A burst of a second in the sockets, and one in the kernel, which begins empty.
	if most := perSecond * (2 + int(time.Since(start)/time.Second) + 1); arrived > most {
		t.Errorf("%d of 2000 packets arrived within %v, want %d at most", arrived, time.Since(start), most)
	}
	if got := k.Counters().Dropped[event.DropBandwidth]; got == dropped {
		t.Error("nothing was dropped")
	}
}

// TestKernelPathChoice checks the three values without a network.
func TestKernelPathChoice(t *testing.T) {
	possible := TryKernelPath()
	for _, path := range []KernelPath{KernelPathOff, KernelPathAuto, KernelPathOn} {
		allocator, err := relay.New(relay.Config{Addresses: []relay.Address{{Bind: netip.MustParseAddr("127.0.0.1"), Advertise: netip.MustParseAddr("127.0.0.1")}}, Peers: lab()})
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{Realm: "example.org", Authenticator: credential.Verifier{}, Relay: allocator, KernelPath: path})
		if path == KernelPathOn && possible != nil {
			if err == nil {
				t.Errorf("the server starts without the path")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		used, problem := s.KernelPath()
		wantProblem := path == KernelPathAuto && possible != nil
		if used != (path != KernelPathOff && possible == nil) || (problem != nil) != wantProblem {
			t.Errorf("value %d: in use %v, problem %v, possible %v", path, used, problem, possible)
		}
		if s.config.NoCoalesce != used {
			t.Errorf("value %d: UDP_GRO is off: %v", path, s.config.NoCoalesce)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if used, _ := s.KernelPath(); used {
			t.Error("in use after Close")
		}
	}
}
