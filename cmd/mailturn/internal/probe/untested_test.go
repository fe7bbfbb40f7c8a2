package probe

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// goodAttempt returns a successful attempt.
func goodAttempt() *attempt {
	return &attempt{addr: netip.MustParseAddrPort("203.0.113.7:3478"), Relay: Relay{
		Transport: UDP, RelayedAddr: "203.0.113.7:50000", PathMTU: 1432,
		RelayToRelay: &Echo{Sent: 20, Received: 20, LargestBytes: maxPacket}, Direct: &Echo{Sent: 20, Received: 20, LargestBytes: maxPacket},
	}}
}

// TestVerdictNamesWhatWasNotTested checks the verdict about relays at which everything that was tried works.
func TestVerdictNamesWhatWasNotTested(t *testing.T) {
	six := netip.MustParseAddrPort("[2001:db8::1]:3478")
	skipped := func(a *attempt) *attempt {
		a.Direct, a.directSkipped = nil, "this is the relay's own machine"
		return a
	}
	loopback := func() *attempt {
		a := skipped(goodAttempt())
		a.addr, a.RelayedAddr = netip.MustParseAddrPort("127.0.0.1:3478"), "127.0.0.1:50000"
		return a
	}
	overSix := func(relayed string) *attempt {
		a := skipped(goodAttempt())
		a.addr, a.RelayedAddr = six, relayed
		return a
	}
	const good = "A call would connect."
	for _, tt := range []struct {
		name     string
		depth    Depth
		attempts []*attempt
		want     Status
		text     string
	}{
		{"all", Normal, []*attempt{goodAttempt()}, OK, good},
		{"the same relayed address over IPv6", Normal, []*attempt{goodAttempt(), overSix("203.0.113.7:50001")}, OK, good},
		{"another relayed address over IPv6", Normal, []*attempt{goodAttempt(), overSix("203.0.113.8:50001")}, Warning,
			"Not tested: whether the relay's ports at 203.0.113.8 are open to the outside (this is the relay's own machine)."},
		{"own machine", Normal, []*attempt{skipped(goodAttempt())}, Warning,
			"A call between two users of this server would connect. Not tested: whether the relay's ports at 203.0.113.7 are open to the outside (this is the relay's own machine)."},
		{"own machine over both families", Normal, []*attempt{skipped(goodAttempt()), overSix("203.0.113.7:50001")}, Warning,
			"Not tested: whether the relay's ports at 203.0.113.7 are open to the outside (this is the relay's own machine)."},
		{"loopback", Normal, []*attempt{loopback()}, OK, good + " Not tested: callers on other machines, who cannot reach 127.0.0.1."},
		{"no IPv6 here", Normal, []*attempt{goodAttempt(), {addr: six, Relay: Relay{Transport: UDP, Stage: stageRoute}}}, OK, good + " Not tested: 2001:db8::1 (this machine has no IPv6)."},
		{"quick", Quick, []*attempt{goodAttempt()}, OK, good + " Not tested: TCP, TLS, what a relay must refuse (--quick)."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRun(Options{Depth: tt.depth})
			r.transports, r.tlsPort = []Transport{UDP, TCP}, 5349
			r.addrs = []netip.Addr{netip.MustParseAddr("203.0.113.7"), six.Addr()}
			r.judgeRelays(tt.attempts)
			v := r.report.judge()
			if v.Status != tt.want || !v.CallConnects || !strings.Contains(v.Text, tt.text) || (len(v.NotTested) > 0) != strings.Contains(v.Text, "Not tested") {
				t.Errorf("got %+v, want %s: %s", v, tt.want, tt.text)
			}
			if tt.text == good && v.Text != good {
				t.Errorf("got %q, want %q alone", v.Text, good)
			}
		})
	}
}

// TestDirectUntested checks relayed addresses that packets from this machine would reach without passing the relay's firewall.
func TestDirectUntested(t *testing.T) {
	addrs, err := net.InterfaceAddrs()
	if err != nil || len(addrs) == 0 {
		t.Fatalf("this machine has the addresses %v, %v", addrs, err)
	}
	local := netip.MustParsePrefix(addrs[0].String()).Addr().Unmap()
	other := netip.MustParseAddr("8.8.4.4")
	if local.Is6() {
		other = netip.MustParseAddr("2606:4700::1111")
	}
	for _, tt := range []struct {
		name          string
		mine, relayed netip.Addr
		want          string
	}{
		{"elsewhere", netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("8.8.8.8"), ""},
		{"in one private network", netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3"), ""},
		{"the relay's address", netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("8.8.8.8"), "the relay's own machine"},
		{"another address of the relay's machine", other, local, "the relay's own machine"},
		{"inside the relay's network", netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("8.8.8.8"), "private address, 10.0.0.2"},
		{"another family", netip.MustParseAddr("2606:4700::1111"), netip.MustParseAddr("8.8.8.8"), "another family"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := directUntested(tt.mine, tt.relayed); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
