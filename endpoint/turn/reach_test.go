package turn

import (
	"net/netip"
	"testing"

	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/peer"
)

// TestAddressProblem checks that every address that the default peer policy refuses is a problem, because other relays like this
// one would not send there.
func TestAddressProblem(t *testing.T) {
	public := Config{Listen: []listen.Addr{{Scheme: "udp", Port: 3478}}}
	loopback := Config{Listen: []listen.Addr{{Scheme: "udp", Host: "127.0.0.1", Port: 3478}, {Scheme: "tcp", Host: "::1", Port: 3478}}}
	for _, prefix := range peer.DefaultDeny() {
		if public.addressProblem(prefix.Addr().Next()) == "" {
			t.Errorf("no problem with %v", prefix.Addr().Next())
		}
	}
	for _, addr := range []string{"127.0.0.1", "::1"} {
		if problem := loopback.addressProblem(netip.MustParseAddr(addr)); problem != "" {
			t.Errorf("%s where all is on loopback: %s", addr, problem)
		}
	}
	if loopback.addressProblem(netip.MustParseAddr("10.0.0.1")) == "" {
		t.Error("no problem with a private address of a relay on loopback")
	}
	for _, addr := range []string{"8.8.8.8", "2a00::1"} {
		if problem := public.addressProblem(netip.MustParseAddr(addr)); problem != "" {
			t.Errorf("%s: %s", addr, problem)
		}
	}
}
