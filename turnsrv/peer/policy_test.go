package peer

import (
	"net/netip"
	"strings"
	"testing"
)

func TestDefaultPolicy(t *testing.T) {
	policy := New(Rules{Own: []netip.Addr{netip.MustParseAddr("8.8.4.4"), netip.MustParseAddr("2606:4700::1")}})
	refused := []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.31.255.255",
		"192.0.0.8", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.1.1", "192.175.48.1",
		"198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.251", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"8.8.4.4", "2606:4700::1",
		"::", "::1", "::8.8.8.8", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:0:8.8.8.8", "64:ff9b::8.8.8.8",
		"64:ff9b:1::8.8.8.8", "100::1", "100:0:0:1::1", "2001::1", "2001:1ff::1", "2001:db8::1", "2002:808:808::1",
		"2620:4f:8000::1", "3fff:fff::1", "5f00::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1",
		"fe80::1%eth0", "2606:4700::2%eth0",
		// ISATAP in an allowed prefix, with a private, a global and an own address embedded.
		"2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:192.168.0.1", "2606:4700::5efe:8.8.4.4",
	}
	for _, s := range refused {
		if rule, ok := policy.CheckAddr(netip.MustParseAddr(s)); ok || rule == "" {
			t.Errorf("%s is permitted (rule %q)", s, rule)
		}
	}
	permitted := []string{
		"1.1.1.1", "8.8.8.8", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255", "128.0.0.1", "172.15.0.1",
		"172.32.0.1", "192.0.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.255", "2606:4700::2", "2001:200::1", "2a00::1",
		"2606:4700::5efe:8.8.8.8",
	}
	for _, s := range permitted {
		if rule, ok := policy.CheckAddr(netip.MustParseAddr(s)); !ok {
			t.Errorf("%s is refused by %q", s, rule)
		}
	}
	if _, ok := policy.CheckAddr(netip.Addr{}); ok {
		t.Error("the zero address is permitted")
	}
}

func TestOperatorsRules(t *testing.T) {
	policy := New(Rules{
		Allow: prefixes("10.0.0.0/8", "::1/128", "2002::/16", "64:ff9b:1::/48", "2001::/32", "198.51.100.7/32"),
		Deny:  prefixes("10.9.0.0/16", "8.8.8.0/24"),
		Own:   []netip.Addr{netip.MustParseAddr("198.51.100.7")},
	})
	tests := []struct {
		addr string
		rule string // empty: permitted
	}{
		{"10.1.2.3", ""},
		{"10.9.2.3", "denied 10.9.0.0/16"},
		{"8.8.8.8", "denied 8.8.8.0/24"},
		{"192.168.0.1", "default 192.168.0.0/16"},
		{"::1", ""}, // not 0.0.0.1 in its compatible form
		{"::2", "default ::/96"},
		{"198.51.100.7", ""},
		// Allowing a prefix of translated addresses does not allow the embedded address.
		{"2002:a01:203::1", ""},                                   // 10.1.2.3
		{"2002:a09:203::1", "embedded IPv4 address: denied 10.9"}, // 10.9.2.3
		{"2002:c0a8:1::1", "embedded IPv4 address: default 192.168"},
		{"2002:808:808::1", "embedded IPv4 address: denied 8.8.8"},
		{"64:ff9b:1::192.168.0.1", "embedded IPv4 address: default 192.168"},
		{"64:ff9b:1:c0a8:0:100:101:101", "embedded IPv4 address: default 192.168"}, // 192.168.0.1 by RFC 6052's /48
		{"2001:0:c0a8:1::fefe:fefe", "embedded IPv4 address: default 192.168"},     // the Teredo server
		{"2001:0:101:101::3f57:fffe", "embedded IPv4 address: default 192.168"},    // the Teredo client
		{"2001:0:101:101::fefe:fefe", ""},
		// Allowing an IPv4 prefix does not allow its translated forms.
		{"::ffff:10.1.2.3", "default ::ffff:0.0.0.0/96"},
		{"64:ff9b::10.1.2.3", "default 64:ff9b::/96"},
	}
	for _, test := range tests {
		rule, ok := policy.CheckAddr(netip.MustParseAddr(test.addr))
		if ok != (test.rule == "") || !strings.HasPrefix(rule, test.rule) {
			t.Errorf("%s: %q, %v, want %q", test.addr, rule, ok, test.rule)
		}
	}
}

func TestDenied(t *testing.T) {
	policy := New(Rules{Deny: prefixes("8.8.8.0/24")})
	for addr, want := range map[string]bool{"8.8.8.8": true, "2002:808:808::1": true, "8.8.4.4": false, "10.0.0.1": false} {
		if rule, denied := policy.Denied(netip.MustParseAddr(addr)); denied != want {
			t.Errorf("Denied(%s) = %q, %v, want %v", addr, rule, denied, want)
		}
	}
}

func TestReflectorPorts(t *testing.T) {
	policy := New(Rules{Allow: prefixes("10.0.0.0/8")})
	for _, port := range []uint16{0, 7, 19, 53, 69, 111, 123, 137, 138, 139, 161, 389, 1900, 5353, 11211} {
		for _, addr := range []string{"1.1.1.1", "10.0.0.1"} {
			if _, ok := policy.Check(netip.AddrPortFrom(netip.MustParseAddr(addr), port)); ok {
				t.Errorf("port %d at %s is permitted", port, addr)
			}
		}
	}
	if rule, ok := policy.Check(netip.MustParseAddrPort("1.1.1.1:40000")); !ok {
		t.Errorf("an ordinary port is refused by %q", rule)
	}
}

func TestLocalPrefixesAreRefused(t *testing.T) {
	local, err := LocalPrefixes()
	if err != nil {
		t.Fatal(err)
	}
	local = append(local, prefixes("8.8.4.0/24", "2606:4700::99/128")...)
	policy := New(Rules{Local: local, Allow: prefixes("8.8.4.128/25")})
	for _, prefix := range local {
		if _, ok := policy.CheckAddr(prefix.Addr()); ok {
			t.Errorf("%v, an address of this machine, is permitted", prefix.Addr())
		}
	}
	for addr, want := range map[string]bool{"8.8.4.5": false, "8.8.4.200": true, "8.8.5.5": true, "2606:4700::99": false,
		"2606:4700::9a": true} {
		if rule, ok := policy.CheckAddr(netip.MustParseAddr(addr)); ok != want {
			t.Errorf("%s: %v %s, want %v", addr, ok, rule, want)
		}
	}
}

// TestAllowedNetworkDoesNotOpenThisMachine allows the network of the server, so that calls reach phones there. The services of
// the server itself, including those that listen only on loopback, remain refused.
func TestAllowedNetworkDoesNotOpenThisMachine(t *testing.T) {
	local := prefixes("127.0.0.0/8", "::1/128", "192.168.1.5/32", "fd00:1::5/128")
	own := []netip.Addr{netip.MustParseAddr("8.8.4.4")}
	tests := []struct {
		name            string
		allow           []netip.Prefix
		refused, opened []string
	}{
		{
			"networks", prefixes("192.168.1.0/24", "fd00:1::/64", "8.8.4.0/24"),
			[]string{"192.168.1.5", "fd00:1::5", "8.8.4.4", "127.0.0.1", "::1", "192.168.2.1"},
			[]string{"192.168.1.6", "fd00:1::6", "8.8.4.5"},
		},
		{
			"everything", prefixes("0.0.0.0/0", "::/0"),
			[]string{"192.168.1.5", "fd00:1::5", "8.8.4.4", "127.0.0.1", "::1"},
			[]string{"192.168.1.6", "10.0.0.1", "fd00:1::6", "224.0.0.1"},
		},
		{
			"single addresses", prefixes("192.168.1.0/24", "192.168.1.5/32", "fd00:1::5/128", "8.8.4.4/32", "127.0.0.9/32"),
			[]string{"127.0.0.1", "::1", "fd00:1::6"},
			[]string{"192.168.1.5", "192.168.1.6", "fd00:1::5", "8.8.4.4", "127.0.0.9"},
		},
		{
			"loopback", prefixes("127.0.0.0/16", "::1/128"),
			[]string{"127.1.0.1", "192.168.1.5"},
			[]string{"127.0.0.1", "127.0.200.1", "::1"},
		},
	}
	for _, tt := range tests {
		policy := New(Rules{Allow: tt.allow, Own: own, Local: local})
		for _, addr := range tt.refused {
			if rule, ok := policy.CheckAddr(netip.MustParseAddr(addr)); ok || rule == "" {
				t.Errorf("%s allowed: %s is permitted", tt.name, addr)
			}
		}
		for _, addr := range tt.opened {
			if rule, ok := policy.CheckAddr(netip.MustParseAddr(addr)); !ok {
				t.Errorf("%s allowed: %s is refused by %q", tt.name, addr, rule)
			}
		}
	}
	denied := New(Rules{Allow: prefixes("192.168.1.5/32"), Deny: prefixes("192.168.1.0/24"), Local: local})
	if _, ok := denied.CheckAddr(netip.MustParseAddr("192.168.1.5")); ok {
		t.Error("an address that is denied was opened")
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "::ffff:10.0.0.1", "2002:a00:1::", "2001:0:a00:1::", "64:ff9b::a00:1", "2606::5efe:a00:1"} {
		f.Add(netip.MustParseAddr(s).AsSlice())
	}
	policy := New(Rules{})
	f.Fuzz(func(t *testing.T, b []byte) {
		addr, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		if _, ok := policy.CheckAddr(addr); !ok {
			return
		}
		// An allowed address must not be one that the standard library knows to be special.
		for _, form := range []netip.Addr{addr, addr.Unmap()} {
			if form.IsPrivate() || form.IsLoopback() || form.IsMulticast() || form.IsUnspecified() || form.IsLinkLocalUnicast() {
				t.Errorf("%v is permitted", addr)
			}
		}
	})
}

func BenchmarkCheckIPv4(b *testing.B) {
	policy := New(Rules{})
	addr := netip.MustParseAddrPort("1.1.1.1:40000")
	b.ReportAllocs()
	for b.Loop() {
		policy.Check(addr)
	}
}

func BenchmarkCheckIPv6(b *testing.B) {
	policy := New(Rules{})
	addr := netip.MustParseAddrPort("[2a00::1]:40000")
	b.ReportAllocs()
	for b.Loop() {
		policy.Check(addr)
	}
}

func TestSpecialPurpose(t *testing.T) {
	tests := []struct {
		addr, what string // empty: globally reachable
		local      bool
	}{
		{"10.1.2.3", "a private address (RFC 1918)", true},
		{"100.64.0.1", "an address behind a carrier's NAT (RFC 6598)", true},
		{"127.0.0.1", "a loopback address (RFC 6890)", true},
		{"::1", "a loopback address (RFC 6890)", true},
		{"169.254.1.1", "a link-local address (RFC 3927)", true},
		{"fe80::1%eth0", "a link-local address (RFC 4291)", true},
		{"fd00::1", "a unique local address (RFC 4193)", true},
		{"192.0.0.8", "an address for protocol assignments (RFC 6890)", false},
		{"198.18.0.1", "a benchmarking address (RFC 2544)", false},
		{"203.0.113.7", "a documentation address (RFC 5737)", false},
		{"240.0.0.1", "a reserved address (RFC 1112)", false},
		{"2002::1", "a 6to4 address (RFC 3056)", false},
		{"192.175.48.1", "an AS112 address (RFC 7534)", false}, // routed on the internet
		{"8.8.8.8", "", false},
		{"2a00::1", "", false},
	}
	for _, test := range tests {
		special, ok := SpecialPurpose(netip.MustParseAddr(test.addr))
		if ok != (test.what != "") || ok && special.String() != test.what || special.Local != test.local {
			t.Errorf("%s: %+v, %v", test.addr, special, ok)
		}
	}
}
