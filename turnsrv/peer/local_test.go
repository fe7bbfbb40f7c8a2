package peer

import (
	"net"
	"net/netip"
	"testing"
)

// TestOwnAddressesOfEveryKind wants every address by which this machine can be reached from itself to be its own.
func TestOwnAddressesOfEveryKind(t *testing.T) {
	var interfaces []net.Addr
	for _, network := range []string{"8.8.4.5/24", "2606:4700:1:2::5/64", "2606:4700:1:3::/127", "2606:4700:1:4::9/128", "fe80::1/64"} {
		addr, subnet, err := net.ParseCIDR(network)
		if err != nil {
			t.Fatal(err)
		}
		subnet.IP = addr
		interfaces = append(interfaces, subnet)
	}
	p := New(Rules{Own: localAddrs(interfaces)})
	for addr, own := range map[string]bool{
		"8.8.4.5": true, "8.8.4.6": false,
		"2606:4700:1:2::5": true, "2606:4700:1:2::": true, "2606:4700:1:2::6": false,
		"2606:4700:1:3::": true, "2606:4700:1:3::1": false, "2606:4700:1:4::9": true, "2606:4700:1:4::": false,
	} {
		if rule, ok := p.CheckAddr(netip.MustParseAddr(addr)); ok == own {
			t.Errorf("%s is reached: %v %s", addr, ok, rule)
		}
	}
}
