//go:build amd64 || arm64

package kernel

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestVLAN relays between a client on a VLAN and a peer on none. The kernel of .ci/old-kernel has VLANs, unlike that of most containers
// and small virtual machines.
func TestVLAN(t *testing.T) {
	if os.Getenv("MAILTURN_VLAN") == "" {
		return
	}
	n := turntest.NewNetwork(t)
	for _, end := range [][3]string{{n.Client, "veth", "2"}, {n.Server, "veth1", "1"}} {
		turntest.IP(t, "-n", end[0], "link", "add", "link", end[1], "name", "vlan", "type", "vlan", "id", "10")
		turntest.IP(t, "-n", end[0], "addr", "add", "198.18.11."+end[2]+"/24", "dev", "vlan")
		turntest.IP(t, "-n", end[0], "addr", "add", "fd18:11::"+end[2]+"/64", "dev", "vlan", "nodad")
		turntest.IP(t, "-n", end[0], "link", "set", "vlan", "up")
	}
	p := loadForTest(t, 8)
	n.In(t, n.Server, func() {
		vlan, err := net.InterfaceByName("vlan")
		if err != nil {
			t.Fatal(err)
		}
		n.ToClient = vlan.Index
		for _, index := range []int{n.ToClient, n.ToPeer} {
			if _, err := p.Attach(index); err != nil {
				t.Fatal(err)
			}
		}
	})
	for family, a := range map[string][]netip.AddrPort{
		"IPv4": ports("198.18.11.2:5000", "198.18.11.1:3478", "198.18.2.1:50000", "198.18.2.2:6000"),
		"IPv6": ports("[fd18:11::2]:5000", "[fd18:11::1]:3478", "[fd18:2::1]:50000", "[fd18:2::2]:6000"),
	} {
		t.Run(family, func(t *testing.T) { checkHosts(t, n, p, a) })
	}
}
