package peer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestNAT64Prefixes uses the examples of RFC 6052 section 2.4 with the well-known addresses of RFC 7050.
func TestNAT64Prefixes(t *testing.T) {
	for addr, want := range map[string]string{
		"2001:db8:c000:aa::":               "2001:db8::/32",
		"2001:db8:1c0:0:aa::":              "2001:db8:100::/40",
		"2001:db8:122:c000:0:aa00::":       "2001:db8:122::/48",
		"2001:db8:122:3c0:0:aa::":          "2001:db8:122:300::/56",
		"2001:db8:122:344:c0:0:aa00::":     "2001:db8:122:344::/64",
		"2001:db8:122:344::192.0.0.170":    "2001:db8:122:344::/96",
		"2001:db8:122:344::192.0.0.171":    "2001:db8:122:344::/96",
		"64:ff9b::192.0.0.170":             "64:ff9b::/96",
		"2001:db8::192.0.2.33":             "",
		"192.0.0.170":                      "",
		"::ffff:192.0.0.170":               "",
		"2a00::1":                          "",
		"2001:db8:122:344::192.0.0.170%e0": "2001:db8:122:344::/96",
	} {
		var prefixes []netip.Prefix
		if want != "" {
			prefixes = []netip.Prefix{netip.MustParsePrefix(want)}
		}
		twice := []netip.Addr{netip.MustParseAddr(addr), netip.MustParseAddr(addr)}
		if got := NAT64Prefixes(twice); !slices.Equal(got, prefixes) {
			t.Errorf("%s: %v, want %v", addr, got, prefixes)
		}
	}
	if got := NAT64Prefixes(nil); got != nil {
		t.Errorf("without addresses: %v", got)
	}
}

// TestNetworkOfItsOwnNAT64 checks addresses that a NAT64 next to the relay would translate to a private address.
func TestNetworkOfItsOwnNAT64(t *testing.T) {
	private := netip.MustParseAddr("2a00:64::10.0.0.1")
	rules := Rules{NAT64: prefixes("2a00:64::/96", "2a00:99::/32")}
	refusals := func(policy *Policy, addrs ...string) {
		t.Helper()
		for _, s := range addrs {
			if rule, ok := policy.CheckAddr(netip.MustParseAddr(s)); ok {
				t.Errorf("%s is permitted (rule %q)", s, rule)
			}
		}
	}
	refusals(New(rules), private.String(), "2a00:64::8.8.8.8", "2a00:99:808:808::")
	if _, ok := New(rules).CheckAddr(netip.MustParseAddr("2a00:65::1")); !ok {
		t.Error("an address beside the prefix is refused")
	}
	// Allowing the prefix allows neither private nor denied addresses.
	rules.Allow, rules.Deny = prefixes("2a00:64::/96", "2a00:99::/32"), prefixes("8.8.4.0/24")
	open := New(rules)
	refusals(open, private.String(), "2a00:64::8.8.4.4", "2a00:99:a00:1::")
	for _, s := range []string{"2a00:64::8.8.8.8", "2a00:99:808:808::"} {
		if rule, ok := open.CheckAddr(netip.MustParseAddr(s)); !ok {
			t.Errorf("%s is refused by %q", s, rule)
		}
	}
	if rule, denied := open.Denied(netip.MustParseAddr("2a00:64::8.8.4.4")); !denied || !strings.Contains(rule, "8.8.4.0/24") {
		t.Errorf("what is denied: %v %q", denied, rule)
	}
}
