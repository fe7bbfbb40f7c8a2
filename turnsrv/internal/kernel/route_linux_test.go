//go:build amd64 || arm64

package kernel

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestRouteTo checks the interface, the MTU and the source address of routes.
func TestRouteTo(t *testing.T) {
	n := turntest.NewNetwork(t)
	n.In(t, n.Server, func() {
		for _, command := range []string{
			"route add 203.0.113.0/24 via 198.18.2.2 mtu 1400",
			"route add 192.0.2.0/24 via 198.18.2.2 mtu 9000", // more than the interface allows
			"route add 2001:db8::/32 via fd18:2::2 mtu 1300",
			"route add blackhole 198.51.100.0/24",
			"link set veth1 mtu 1492",
			"addr add 198.18.2.9/24 dev veth2",
		} {
			if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
				t.Errorf("ip %s: %v\n%s", command, err, out)
			}
		}
		for _, test := range []struct {
			to, from string
			want     Route
			source   string
		}{
			{"198.18.1.2", "", Route{n.ToClient, 1492}, "198.18.1.1"},
			{"198.18.2.2", "0.0.0.0", Route{n.ToPeer, 1500}, "198.18.2.1"},
			{"::ffff:198.18.2.2", "198.18.2.9", Route{n.ToPeer, 1500}, "198.18.2.9"},
			{"203.0.113.7", "", Route{n.ToPeer, 1400}, "198.18.2.1"},
			{"192.0.2.7", "", Route{n.ToPeer, 1500}, "198.18.2.1"},
			{"fd18:1::2", "", Route{n.ToClient, 1492}, "fd18:1::1"},
			{"2001:db8::7", "::", Route{n.ToPeer, 1300}, "fd18:2::1"},
		} {
			var from netip.Addr
			if test.from != "" {
				from = netip.MustParseAddr(test.from)
			}
			route, source, err := RouteTo(netip.MustParseAddr(test.to), from)
			if err != nil || route != test.want || source.String() != test.source {
				t.Errorf("to %s from %q: %v from %v (%v), want %v from %s", test.to, test.from, route, source, err, test.want, test.source)
			}
		}
		for _, own := range []string{"198.18.1.1", "127.0.0.1", "fd18:1::1"} {
			if _, _, err := RouteTo(netip.MustParseAddr(own), netip.Addr{}); !errors.Is(err, ErrNotRouted) {
				t.Errorf("to %s: %v", own, err)
			}
		}
		for _, nowhere := range []string{"198.51.100.1", "100.64.0.1", "2001:db9::1"} {
			if route, _, err := RouteTo(netip.MustParseAddr(nowhere), netip.Addr{}); err == nil {
				t.Errorf("to %s: %v", nowhere, route)
			}
		}
	})
}

// BenchmarkRelay measures how long a session waits when it gives a channel to the program and takes it back.
func BenchmarkRelay(b *testing.B) {
	n := turntest.NewNetwork(b)
	p := loadForTest(b, 1<<15)
	n.In(b, n.Server, func() {
		a := ports("198.18.1.2:5000", "198.18.1.1:3478", "198.18.2.1:50000", "198.18.2.2:6000")
		now := time.Now()
		for b.Loop() {
			now = now.Add(restFor) // so that entries can be used again
			c, err := p.Relay(Binding{Client: a[0], Server: a[1], Number: number, Relay: a[2], Peer: a[3], Until: now.Add(time.Minute)}, now)
			if err != nil {
				b.Error(err)
				return
			}
			c.End(now)
		}
	})
}
