//go:build amd64 || arm64

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// checkArrives sends a datagram, and checks that another socket receives one, from whom, and what.
func checkArrives(t *testing.T, from *net.UDPConn, to netip.AddrPort, sent []byte, at *net.UDPConn, sender netip.AddrPort, want []byte) {
	t.Helper()
	if _, err := from.WriteToUDPAddrPort(sent, to); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	_ = at.SetReadDeadline(time.Now().Add(10 * time.Second))
	size, addr, err := at.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatalf("a datagram of %d bytes: %v", len(sent), err)
	}
	if addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()); addr != sender || !bytes.Equal(b[:size], want) {
		t.Fatalf("got %x from %v, want %x from %v", b[:size], addr, want, sender)
	}
}

// TestHooks relays between three hosts, in both families, over both hooks.
func TestHooks(t *testing.T) {
	n := turntest.NewNetwork(t)
	for name, attach := range map[string]func(*Path, int) (hook, error){"tcx": (*Path).attach, "clsact": (*Path).attachFilter} {
		t.Run(name, func(t *testing.T) {
			p := loadForTest(t, 8)
			n.In(t, n.Server, func() {
				for _, index := range []int{n.ToClient, n.ToPeer} {
					h, err := attach(p, index)
					if err != nil {
						t.Error(err)
						return
					}
					if h.String() != name {
						t.Errorf("attached by %v", h)
					}
					p.hooks[index] = h
				}
			})
			for family, a := range map[string][]netip.AddrPort{
				"IPv4": ports("198.18.1.2:5000", "198.18.1.1:3478", "198.18.2.1:50000", "198.18.2.2:6000"),
				"IPv6": ports("[fd18:1::2]:5000", "[fd18:1::1]:3478", "[fd18:2::1]:50000", "[fd18:2::2]:6000"),
			} {
				t.Run(family, func(t *testing.T) { checkHosts(t, n, p, a) })
			}
			n.In(t, n.Server, func() {
				for name, index := range map[string]int{"veth1": n.ToClient, "veth2": n.ToPeer} {
					if err := errors.Join(p.Detach(index), p.Detach(index)); err != nil {
						t.Error(err)
					}
					if out, err := exec.Command("tc", "filter", "show", "dev", name, "ingress").CombinedOutput(); err != nil || len(out) > 0 {
						t.Errorf("left on %s: %s (%v)", name, out, err)
					}
				}
			})
		})
	}
}

// checkHosts relays between the client and the peer with these addresses, first without an entry and last without it again.
func checkHosts(t *testing.T, n *turntest.Network, p *Path, a []netip.AddrPort) {
	clientAddr, serverAddr, relayAddr, peerAddr := a[0], a[1], a[2], a[3]
	client, server := n.Listen(t, n.Client, clientAddr), n.Listen(t, n.Server, serverAddr)
	relay, peer := n.Listen(t, n.Server, relayAddr), n.Listen(t, n.Peer, peerAddr)
	wrapped := func(payload []byte) []byte { return channelData(number, payload) }
	now := time.Now()
	c, err := p.Add(Binding{
		Client: clientAddr, Server: serverAddr, Number: number, Relay: relayAddr, Peer: peerAddr,
		ToClient: Route{n.ToClient, 1500}, ToPeer: Route{n.ToPeer, 1500}, Until: now.Add(time.Minute),
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	checkArrives(t, client, serverAddr, wrapped(data(9)), server, clientAddr, wrapped(data(9))) // the peer has not answered
	headers := 28
	if !clientAddr.Addr().Is4() {
		headers = 48
	}
	for size := 0; size <= 1500-headers; size++ {
		p.Beat()
		if size <= 1500-headers-4 {
			checkArrives(t, peer, relayAddr, data(size), client, serverAddr, wrapped(data(size)))
			checkArrives(t, client, serverAddr, wrapped(data(size)), peer, relayAddr, data(size))
		} else { // does not fit with a header
			checkArrives(t, peer, relayAddr, data(size), relay, peerAddr, data(size))
		}
	}
	// Fragments are put together and delivered to the socket.
	checkArrives(t, peer, relayAddr, data(3000), relay, peerAddr, data(3000))
	checkArrives(t, client, serverAddr, wrapped(data(3000)), server, clientAddr, wrapped(data(3000)))
	checkArrives(t, client, serverAddr, channelData(number+1, data(30)), server, clientAddr, channelData(number+1, data(30)))
	// So are several datagrams that the sender leaves to its network interface to split.
	segments := append(wrapped(data(96)), wrapped(data(96))...)
	control := binary.NativeEndian.AppendUint64(nil, unix.SizeofCmsghdr+2)
	control = binary.NativeEndian.AppendUint32(control, unix.SOL_UDP)
	control = binary.NativeEndian.AppendUint32(control, unix.UDP_SEGMENT)
	control = append(binary.NativeEndian.AppendUint16(control, 100), make([]byte, 6)...)
	datagrams := 2
	if _, _, err := client.WriteMsgUDPAddrPort(segments, control, serverAddr); errors.Is(err, unix.EIO) {
		datagrams = 0 // before Linux 6.9, an interface that leaves checksums to the sender cannot
	} else if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	for range datagrams {
		// They take either way, whole.
		_ = server.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if size, err := server.Read(b); err == nil {
			if !bytes.Equal(b[:size], wrapped(data(96))) {
				t.Errorf("a segment arrived as %x", b[:size])
			}
			continue
		}
		_ = peer.SetReadDeadline(time.Now().Add(10 * time.Second))
		if size, err := peer.Read(b); err != nil || !bytes.Equal(b[:size], data(96)) {
			t.Errorf("a segment arrived as %x (%v)", b[:size], err)
		}
	}
	// A checksum that is not computed yet cannot be changed.
	n.In(t, n.Client, func() { turntest.OffloadChecksums(t, "veth", true) })
	checkArrives(t, client, serverAddr, wrapped(data(9)), server, clientAddr, wrapped(data(9)))
	n.In(t, n.Client, func() { turntest.OffloadChecksums(t, "veth", false) })
	checkArrives(t, client, serverAddr, wrapped(data(9)), peer, relayAddr, data(9))
	c.End(now)
	checkArrives(t, client, serverAddr, wrapped(data(9)), server, clientAddr, wrapped(data(9)))
	checkArrives(t, peer, relayAddr, data(9), relay, peerAddr, data(9))
}

// TestLeftFilter checks that a filter that a process has left on the clsact hook is removed by the next one, and no other.
func TestLeftFilter(t *testing.T) {
	n := turntest.NewNetwork(t)
	p := loadForTest(t, 1)
	n.In(t, n.Server, func() {
		if err := RemoveFilters(n.ToPeer); err != nil { // there is neither a filter nor a hook
			t.Error(err)
		}
		if err := RemoveFilters(12345); err != nil { // there is no such interface
			t.Error(err)
		}
		left, err := claim()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(addFilter(n.ToPeer, left, p.objects.MailturnRelay.FD()), left.release()); err != nil {
			t.Error(err)
		}
		other := attribute(nil, bpfFD, binary.NativeEndian.AppendUint32(nil, uint32(p.objects.MailturnRelay.FD())))
		other = attribute(attribute(other, bpfName, []byte("other\x00")), bpfFlags, binary.NativeEndian.AppendUint32(nil, directAction))
		message := attribute(tcMessage(n.ToPeer, 1, clsactIngress, 1<<16|uint32(big(unix.ETH_P_ALL))), unix.TCA_KIND, []byte("bpf\x00"))
		message = attribute(message, unix.TCA_OPTIONS, other)
		if _, err := ask(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, message); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := RemoveFilters(n.ToPeer); err != nil {
				t.Error(err)
			}
		}
		// One of another program with our priority is not ours.
		if _, err := ask(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, attribute(filterMessage(n.ToPeer, left.handle), unix.TCA_OPTIONS, other)); err != nil {
			t.Error(err)
		}
		if err := RemoveFilters(n.ToPeer); err != nil {
			t.Error(err)
		}
		if out, err := exec.Command("tc", "filter", "show", "dev", "veth2", "ingress").CombinedOutput(); err != nil || strings.Count(string(out), "other") != 2 || strings.Contains(string(out), filterName) {
			t.Errorf("%s (%v)", out, err)
		}
	})
}

// TestPlaceOfStranger checks that a filter that a process has left is removed, even if another user has taken its place since.
func TestPlaceOfStranger(t *testing.T) {
	n := turntest.NewNetwork(t)
	p := loadForTest(t, 1)
	n.In(t, n.Server, func() {
		left, err := claim()
		if err != nil {
			t.Fatal(err)
		}
		if err := addFilter(n.ToPeer, left, p.objects.MailturnRelay.FD()); err != nil {
			t.Fatal(err)
		}
		filters := func() string {
			out, err := exec.Command("tc", "filter", "show", "dev", "veth2", "ingress").CombinedOutput()
			if err != nil {
				t.Errorf("%s (%v)", out, err)
			}
			return string(out)
		}
		for range 5 { // more than may connect
			if err := RemoveFilters(n.ToPeer); err != nil || !strings.Contains(filters(), filterName) {
				t.Fatalf("one in use: %v, %s", err, filters())
			}
		}
		if err := left.release(); err != nil {
			t.Fatal(err)
		}
		stranger, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(stranger)
		if err := unix.Bind(stranger, address(left.handle)); err != nil {
			t.Fatal(err)
		}
		// The system asks for the user of this thread when it begins to listen.
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)); errno != 0 {
			t.Fatal(errno)
		}
		err = unix.Listen(stranger, 1)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 0, ^uintptr(0)); errno != 0 {
			panic(errno) // the thread must not be used any more
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := RemoveFilters(n.ToPeer); err != nil || filters() != "" {
			t.Errorf("with its place taken by another user: %v, %s", err, filters())
		}
	})
}

// TestTwoFilters has two servers relay over the clsact hooks of the same interfaces, and ends one of them: the other one goes on. The
// filters of a process that was killed go, those of a running one stay.
func TestTwoFilters(t *testing.T) {
	n := turntest.NewNetwork(t)
	now := time.Now()
	var paths []*Path
	b := Binding{
		Client: netip.MustParseAddrPort("198.18.1.2:5000"), Server: netip.MustParseAddrPort("198.18.1.1:3478"), Number: number,
		Relay: netip.MustParseAddrPort("198.18.2.1:50000"), Peer: netip.MustParseAddrPort("198.18.2.2:6000"),
		ToClient: Route{n.ToClient, 1500}, ToPeer: Route{n.ToPeer, 1500}, Until: now.Add(time.Minute),
	}
	client, peer := n.Listen(t, n.Client, b.Client), n.Listen(t, n.Peer, b.Peer)
	wrapped := channelData(number, data(9))
	check := func(server uint16) {
		t.Helper()
		at, relay := netip.AddrPortFrom(b.Server.Addr(), server), netip.AddrPortFrom(b.Relay.Addr(), server)
		checkArrives(t, peer, relay, data(9), client, at, wrapped)
		checkArrives(t, client, at, wrapped, peer, relay, data(9))
	}
	filters := func(want int) {
		t.Helper()
		n.In(t, n.Server, func() {
			out, err := exec.Command("tc", "filter", "show", "dev", "veth2", "ingress").CombinedOutput()
			if err != nil || strings.Count(string(out), filterName) != want {
				t.Errorf("want %d filters: %s (%v)", want, out, err)
			}
		})
	}
	for server := range uint16(2) {
		p := loadForTest(t, 4)
		paths = append(paths, p)
		n.In(t, n.Server, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, index := range []int{n.ToClient, n.ToPeer} {
				h, err := p.attachFilter(index)
				if err != nil {
					t.Fatal(err)
				}
				p.hooks[index] = h
			}
		})
		own := b
		own.Server, own.Relay = netip.AddrPortFrom(b.Server.Addr(), server+1), netip.AddrPortFrom(b.Relay.Addr(), server+1)
		c, err := p.Add(own, now)
		if err != nil {
			t.Fatal(err)
		}
		p.entries.all[c.toPeer].Proven, p.entries.all[c.toClient].Proven = 1, 1
	}
	filters(2)
	check(1)
	check(2)
	n.In(t, n.Server, func() {
		if err := errors.Join(paths[0].Detach(n.ToClient), paths[0].Detach(n.ToPeer), RemoveFilters(n.ToClient), RemoveFilters(n.ToPeer)); err != nil {
			t.Error(err)
		}
	})
	filters(1)
	check(2)
	n.In(t, n.Server, func() {
		if err := paths[1].place.release(); err != nil { // as if killed
			t.Error(err)
		}
		paths[1].place = nil
		if err := RemoveFilters(n.ToPeer); err != nil {
			t.Error(err)
		}
	})
	filters(0)
}

// TestGoneInterface checks that an interface that vanishes does not disturb anything.
func TestGoneInterface(t *testing.T) {
	n := turntest.NewNetwork(t)
	p := loadForTest(t, 1)
	n.In(t, n.Server, func() {
		filtered, err := p.attachFilter(n.ToClient)
		if err != nil {
			t.Error(err)
			return
		}
		p.hooks[n.ToClient] = filtered
		if _, err := p.Attach(n.ToPeer); err != nil {
			t.Error(err)
		}
		if _, err := p.Attach(12345); !errors.Is(err, unix.ENODEV) {
			t.Errorf("an interface that does not exist: %v", err)
		}
		if _, err := p.Attach(1); !errors.Is(err, ErrNotEthernet) {
			t.Errorf("the loopback interface: %v", err)
		}
		for name, index := range map[string]int{"veth1": n.ToClient, "veth2": n.ToPeer} {
			if out, err := exec.Command("ip", "link", "delete", name).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if err := p.Detach(index); err != nil {
				t.Error(err)
			}
		}
	})
}
