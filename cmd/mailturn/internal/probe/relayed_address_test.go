package probe

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestRelayedAddressOfNobody checks relayed addresses of every kind that callers elsewhere cannot reach.
func TestRelayedAddressOfNobody(t *testing.T) {
	const public, local, lan = "8.8.8.8", "127.0.0.1", "10.0.0.1"
	for _, tt := range []struct {
		server, relayed string
		want            string // part of the failure; empty if there is none
	}{
		{public, "10.1.2.3", "10.1.2.3, a private address"},
		{public, "100.64.0.1", "an address behind a carrier's NAT"},
		{public, "192.0.0.8", "an address for protocol assignments"},
		{public, "169.254.1.1", "a link-local address"},
		{public, "198.18.0.1", "a benchmarking address"},
		{public, "240.0.0.1", "a reserved address"},
		{public, "203.0.113.7", "a documentation address"},
		{public, "127.0.0.1", "a loopback address"},
		{public, "fd00::1", "a unique local address"},
		{public, "2001:db8::1", "a documentation address"},
		{public, public, ""},
		{local, local, ""},
		{lan, lan, ""},
		{lan, "192.168.0.1", ""},
	} {
		r := newRun(Options{})
		echoed := &Echo{Sent: 20, Received: 20}
		r.judgeAllocation(&attempt{
			addr:  netip.AddrPortFrom(netip.MustParseAddr(tt.server), 3478),
			Relay: Relay{Transport: UDP, RelayedAddr: netip.AddrPortFrom(netip.MustParseAddr(tt.relayed), 50000).String(), RelayToRelay: echoed, Direct: echoed},
		})
		i := slices.IndexFunc(r.report.Checks, func(c Check) bool { return c.ID == "turn.relayed_address" && c.Status == Failure })
		switch {
		case tt.want == "" && i >= 0:
			t.Errorf("%s at %s: %s", tt.relayed, tt.server, r.report.Checks[i].Summary)
		case tt.want != "" && (i < 0 || !strings.Contains(r.report.Checks[i].Summary, tt.want)):
			t.Errorf("%s at %s: got %+v, want a failure that says %q", tt.relayed, tt.server, r.report.Checks, tt.want)
		}
	}
}
