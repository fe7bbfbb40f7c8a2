package peer

import (
	"net/netip"
	"slices"
	"testing"
)

// TestLocalPrefixesHaveMoreThanAddresses checks that local prefixes include addresses that no interface has. On every Linux,
// 127.0.0.0/8 is such a prefix, because the loopback interface has 127.0.0.1.
func TestLocalPrefixesHaveMoreThanAddresses(t *testing.T) {
	local, err := LocalPrefixes()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"127.0.0.1", "127.8.9.10"} {
		if !slices.ContainsFunc(local, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(addr)) }) {
			t.Errorf("%s is not among %v", addr, local)
		}
	}
	if slices.Contains(local, netip.MustParsePrefix("0.0.0.0/0")) {
		t.Errorf("the internet is among %v", local)
	}
}
