package coturn

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/peer"
)

// TestExportPeers checks that coturn refuses the same peers as mailturn.
func TestExportPeers(t *testing.T) {
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	for _, tt := range []struct {
		name        string
		allow, deny []netip.Prefix
	}{
		{"defaults", nil, nil},
		{"all IPv6 denied", nil, prefixes("::/0")},
		{"all IPv4 denied", nil, prefixes("0.0.0.0/0")},
		{"all IPv6 allowed", prefixes("::/0"), nil},
		{"all IPv4 allowed", prefixes("0.0.0.0/0"), nil},
		{"some of each", prefixes("10.1.0.0/16", "fd00:1::/32", "::1/128"), prefixes("9.0.0.0/8", "2606:4700::/33", "2606:4700:8000::/34")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Export(&b, turn.Config{Realm: "example.org", Settings: turn.Settings{
				Peers: turn.PeersSchema{Allow: config.Value[[]netip.Prefix]{V: tt.allow}, Deny: tt.deny},
			}}); err != nil {
				t.Fatal(err)
			}
			policy := peer.New(peer.Rules{Allow: tt.allow, Deny: tt.deny})
			for _, text := range []string{
				"1.1.1.1", "9.9.9.9", "10.0.0.1", "10.1.255.1", "127.0.0.1", "100.64.0.1", "169.254.169.254", "192.168.1.1", "224.0.0.1", "255.255.255.255",
				"2606:4700::1", "2606:4700::100", "2606:4700:7fff::", "2606:4700:8001::", "2606:4700:c000::1", "2a00::1", "::1",
				"fd00::1", "fd00:1::1", "fd00:1:ffff::", "fe80::1", "febf::", "fec0::1", "ff02::1", "ff05::100",
			} {
				addr := netip.MustParseAddr(text)
				rule, want := policy.CheckAddr(addr)
				if got := coturnReaches(b.String(), addr); got != want {
					t.Errorf("coturn reaches %v: %v, mailturn: %v (%s)", addr, got, want, rule)
				}
			}
		})
	}
}

// coturnReaches decides about a peer like coturn 4.6.1 with the lines of a file.
func coturnReaches(file string, addr netip.Addr) bool {
	allowed, denied := false, false
	loopback, multicast := strings.Contains(file, "allow-loopback-peers\n"), !strings.Contains(file, "no-multicast-peers\n")
	for line := range strings.Lines(file) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		first, last, isRange := strings.Cut(value, "-")
		if !isRange {
			last = first
		}
		switch name {
		case "allowed-peer-ip":
			allowed = allowed || coturnContains(netip.MustParseAddr(first), netip.MustParseAddr(last), addr)
		case "denied-peer-ip":
			denied = denied || coturnContains(netip.MustParseAddr(first), netip.MustParseAddr(last), addr)
		}
	}
	return (loopback || !addr.IsLoopback()) && (multicast || !addr.IsMulticast()) && (allowed || !denied)
}

// coturnContains compares like coturn: an unspecified end is open for both families, and IPv6 addresses are compared byte by byte.
func coturnContains(first, last, addr netip.Addr) bool {
	notAfter := func(a, b netip.Addr) bool {
		if a.Is4() != b.Is4() {
			return a.Is4()
		}
		if a.Is4() {
			return a.Compare(b) <= 0
		}
		for i, octet := range a.As16() {
			if octet > b.As16()[i] {
				return false
			}
		}
		return true
	}
	return (first.IsUnspecified() || notAfter(first, addr)) && (last.IsUnspecified() || notAfter(addr, last))
}
