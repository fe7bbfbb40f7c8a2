//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// tooBig returns an ICMP error from a router: what begins the IP packet of sent is too long for a link with this MTU.
func tooBig(sent frame, mtu uint16, part int) []byte {
	packet := sent.bytes()[14:][:part]
	router, ethernet := netip.MustParseAddr("192.0.2.254"), []byte{14: 0}[:12]
	if sent.from.Addr().Is4() {
		b := append(ethernet, 8, 0, 0x45, 0, 0, byte(20+8+part), 0, 0, 0, 0, 64, 1, 0, 0)
		b = append(append(b, router.AsSlice()...), sent.from.Addr().AsSlice()...)
		b = append(b, 3, 4, 0, 0, 0, 0, byte(mtu>>8), byte(mtu))
		return append(b, packet...)
	}
	b := append(ethernet, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(8+part), 58, 64)
	b = append(append(b, netip.MustParseAddr("2001:db8::254").AsSlice()...), sent.from.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint32(append(b, 2, 0, 0, 0), uint32(mtu))
	return append(b, packet...)
}

// TestTooBig has a router report that a packet is too long for one of its links: the sockets get packets of that length from then on,
// because only the system's route knows about it.
func TestTooBig(t *testing.T) {
	now := time.Now()
	const mtu = 1300
	for name, b := range bindings(now) {
		t.Run(name, func(t *testing.T) {
			p, _ := offload(t, b, now)
			headers := 20 + 8
			if name == "IPv6" {
				headers = 40 + 8
			}
			most := mtu - headers // bytes of UDP
			toPeer := func(n int) frame {
				return frame{from: b.Client, to: b.Server, payload: channelData(number, data(n)), hops: 64}
			}
			toClient := func(n int) frame { return frame{from: b.Peer, to: b.Relay, payload: data(n), hops: 64} }
			leavesToPeer := func(n int) frame { return frame{from: b.Relay, to: b.Peer, payload: data(n), hops: 63} }
			leavesToClient := func(n int) frame {
				return frame{from: b.Server, to: b.Client, payload: channelData(number, data(n)), hops: 63}
			}
			relayed := func(n int) {
				t.Helper()
				checkRelayed(t, p, toPeer(n), leavesToPeer(n))
				checkRelayed(t, p, toClient(n), leavesToClient(n))
			}
			long := 1500 - headers - 4
			for what, message := range map[string][]byte{
				"another peer":    tooBig(frame{from: b.Relay, to: netip.AddrPortFrom(b.Peer.Addr(), 9), payload: data(long)}, mtu, headers),
				"another channel": tooBig(frame{from: b.Server, to: b.Client, payload: channelData(number+1, data(long))}, mtu, headers+4),
				"no channel":      tooBig(frame{from: b.Server, to: b.Client, payload: channelData(number, data(long))}, mtu, headers),
				"no ports":        tooBig(leavesToPeer(long), mtu, headers-1),
				"another message": func() []byte { m := tooBig(leavesToPeer(long), mtu, headers); m[14+headers-8] = 1; return m }(),
				"a larger MTU":    tooBig(leavesToPeer(long), 1500, headers),
			} {
				checkUp(t, p, message, nil, NumReasons)
				if relayed(long); t.Failed() {
					t.Fatal("after ", what)
				}
			}

			checkUp(t, p, tooBig(leavesToPeer(long), mtu, headers), nil, NumReasons)
			checkUp(t, p, toPeer(most+1).bytes(), nil, MTU)
			checkRelayed(t, p, toPeer(most), leavesToPeer(most))
			checkRelayed(t, p, toClient(long), leavesToClient(long))

			checkUp(t, p, tooBig(leavesToClient(long), mtu, headers+4), nil, NumReasons)
			checkUp(t, p, toClient(most-4+1).bytes(), nil, MTU)
			relayed(most - 4)
		})
	}
}

// TestFarTooBig has somebody report an absurd MTU. The kernel still relays packets of the size that every path carries.
func TestFarTooBig(t *testing.T) {
	now := time.Now()
	for name, b := range bindings(now) {
		t.Run(name, func(t *testing.T) {
			p, _ := offload(t, b, now)
			headers, least := 20+8, 576
			if name == "IPv6" {
				headers, least = 40+8, 1280
			}
			n := least - headers
			leaves := frame{from: b.Relay, to: b.Peer, payload: data(n), hops: 63}
			for _, mtu := range []uint16{0, 68, uint16(least - 1)} {
				checkUp(t, p, tooBig(leaves, mtu, headers), nil, NumReasons)
				checkRelayed(t, p, frame{from: b.Client, to: b.Server, payload: channelData(number, data(n)), hops: 64}, leaves)
			}
		})
	}
}

// TestInterfaceMTU shrinks the MTU of the interface over which packets leave: the very next packet that is too long is passed up.
func TestInterfaceMTU(t *testing.T) {
	n := turntest.NewNetwork(t)
	n.In(t, n.Server, func() {
		now := time.Now()
		for name, b := range bindings(now) {
			turntest.IP(t, "link", "set", "veth2", "mtu", "1500")
			b.ToPeer.Interface = n.ToPeer
			p := loadForTest(t, 4)
			c, err := p.Add(b, now)
			if err != nil {
				t.Error(err)
				return
			}
			p.entries.all[c.toPeer].Proven = 1
			in := frame{from: b.Client, to: b.Server, payload: channelData(number, data(1400)), hops: 64}
			checkRelayed(t, p, in, frame{from: b.Relay, to: b.Peer, payload: data(1400), hops: 63})
			turntest.IP(t, "link", "set", "veth2", "mtu", "1400")
			checkUp(t, p, in.bytes(), nil, MTU)
			if t.Failed() {
				t.Log("with ", name)
			}
		}
	})
}
