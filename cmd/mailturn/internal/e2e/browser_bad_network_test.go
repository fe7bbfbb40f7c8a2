package e2e

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
)

// linkIPv4 is the relay's address for alice, over a bad link.
const linkIPv4 = "10.75.0.9"

// TestBrowsersOnBadNetwork makes a call over a link that loses, delays and reorders packets, and fragments those over 1,200 bytes.
// It checks that the call continues, and that packets are lost only on the link: every packet that reaches the relay leaves it.
func TestBrowsersOnBadNetwork(t *testing.T) {
	n := newCallNetwork(t)
	certs := newCertificates(t)
	s := n.startRelay(t, configureNetwork(t, certs.block(), ""))
	for _, args := range []string{
		"-n " + string(n.relay) + " address add " + linkIPv4 + " dev lo",
		"-n " + string(n.relay) + " link set alice mtu 1200",
		"-n " + string(n.alice) + " link set uplink mtu 1200",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	link := newBadLink(t, n.relay, linkIPv4+":3478", relayIPv4+":3478")
	alice := startBrowser(t, browser.Chromium, n.alice, certs.ca)
	bob := startBrowser(t, browser.Chromium, n.bob, certs.ca)

	good := minted(relayIPv4)
	videoCall(t, alice, bob,
		[]iceServer{{"turn:" + linkIPv4 + ":3478", good.username, good.password}},
		[]iceServer{{"turn:" + relayIPv4 + ":3478", good.username, good.password}})
	users := []participant{alice, bob}
	for _, u := range users {
		u.do(t, nil, "received", 2*framesWanted, 2*audioPacketsWanted)
		u.do(t, nil, "ping", 3, 5000)
	}
	for _, u := range users {
		u.do(t, nil, "mute")
	}
	var ends [2]report
	for i, u := range users {
		u.do(t, nil, "settled")
		ends[i] = u.report(t)
		t.Logf("%s", ends[i].figures())
		if got := strings.Join(ends[i].States, " "); got != "connecting connected" {
			t.Errorf("the connection went through %s", got)
		}
		if _, lost := ends[i].packets(); lost == 0 {
			t.Error("no packet was lost: the link is not as bad as it should be")
		}
	}
	for _, u := range users {
		u.do(t, nil, "close")
	}
	t.Logf("the link carried %d packets and lost %d", link.carried.Load(), link.lost.Load())

	drops := n.relay.udpErrors(t)
	s.stop(t) // ends the allocations whose last Refresh was lost

	aliceEnd := s.waitFor(t, s.stderr, "allocation.relay="+ends[0].LocalAddress+" allocation.reason=")
	bobEnd := s.waitFor(t, s.stderr, "allocation.relay="+ends[1].LocalAddress+" allocation.reason=")
	for _, direction := range []struct {
		name    string
		in, out uint64
	}{
		{"from alice to bob", counter(t, aliceEnd, "to_peer_packets"), counter(t, bobEnd, "to_client_packets")},
		{"from bob to alice", counter(t, bobEnd, "to_peer_packets"), counter(t, aliceEnd, "to_client_packets")},
	} {
		t.Logf("%s: %d packets came to the relay, %d left it", direction.name, direction.in, direction.out)
		if direction.out+direction.in/100 < direction.in { // one of the two ends first
			t.Errorf("%s: %d packets came to the relay and %d left it", direction.name, direction.in, direction.out)
		}
	}
	// Bob's link is a good one: what the relay sent him is what he got, and what he sent is what came to the relay.
	ends[1].wantAgreement(t, s, bob.kind)
	if drops != 0 {
		t.Errorf("the kernel dropped %d datagrams at the relay's sockets", drops)
	}
}

// udpErrors is how many datagrams the kernel could not give to a socket of the namespace, or take from one.
func (ns namespace) udpErrors(t *testing.T) (n int) {
	t.Helper()
	var text []byte
	var err error
	ns.do(t, func() { text, err = os.ReadFile("/proc/thread-self/net/snmp") })
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch {
		case fields[0] != "Udp:":
		case names == nil:
			names = fields
		default:
			for i, name := range names {
				if name == "RcvbufErrors" || name == "SndbufErrors" {
					count, err := strconv.Atoi(fields[i])
					if err != nil {
						t.Fatal(err)
					}
					n += count
				}
			}
			return n
		}
	}
	t.Fatalf("no counters of UDP in %s", text)
	return 0
}
