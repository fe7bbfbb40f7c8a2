package e2e

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
)

// hearMore checks that both ends of a call decode more video and receive more audio from now on.
func hearMore(t *testing.T, users ...participant) {
	t.Helper()
	for _, u := range users {
		before := u.report(t).Inbound
		u.do(t, nil, "received", before["video"].FramesDecoded+framesWanted/5, before["audio"].PacketsReceived+audioPacketsWanted/5)
	}
}

// waitForRefreshes waits until the allocation of a relayed address was refreshed so many times, and once after a moment.
func (s *server) waitForRefreshes(t *testing.T, relay string, n int, after time.Time) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*startLimit)
	defer cancel()
	text := "allocation.relay=" + relay + " allocation.lifetime=" // when it was made, and each time
	for {
		last, changed := s.stderr.find(0, text)
		if strings.Count(s.stderr.String(), text) > n && logTime(t, last).After(after) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("the allocation was not refreshed %d times until %v and later; last: %s", n, after, last)
		}
	}
}

// logTime is when a line of the log was written.
func logTime(t *testing.T, line string) time.Time {
	t.Helper()
	m := regexp.MustCompile(`^time=(\S+) `).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("no time in %q", line)
	}
	at, err := time.Parse(time.RFC3339, m[1])
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestBrowsersLongCall makes a call that lasts longer than the lifetimes of its allocations and credentials, and checks that it
// survives a reload that changes the secret, and a change of one user's address.
func TestBrowsersLongCall(t *testing.T) {
	n := newCallNetwork(t)
	certs := newCertificates(t)
	config := configureNetwork(t, certs.block(), "max_lifetime = \"20s\"\nnonce_lifetime = \"10m\"")
	s := n.startRelay(t, config)
	alice := startBrowser(t, browser.Firefox, n.alice, certs.ca)
	bob := startBrowser(t, browser.Chromium, n.bob, certs.ca)

	expiry := time.Now().Add(25 * time.Second) // by when both have their allocations, on a busy machine too
	short := credential{username: strconv.FormatInt(expiry.Unix(), 10)}
	short.password = mint(short.username)
	servers := []iceServer{{"turn:" + relayIPv4 + ":3478", short.username, short.password}}
	videoCall(t, alice, bob, servers, servers)
	hearMore(t, alice, bob)
	relays := map[string]participant{alice.report(t).LocalAddress: alice, bob.report(t).LocalAddress: bob}

	// A new secret, and the old one no longer.
	rewrite(t, s, config, strconv.Quote(secret), strconv.Quote("the secret of the following week"), "msg=reloaded")
	hearMore(t, alice, bob)

	for relay := range relays {
		s.waitForRefreshes(t, relay, 3, expiry)
	}
	hearMore(t, alice, bob)

	stayInCall(t, alice, bob)

	// The old credential makes no new allocation, and a new one does: alice moves to another address, which causes an ICE restart.
	n.alice.move(t, "10.75.1.2/24", "10.75.1.3/24", "10.75.1.1")
	turn, _ := n.alice.discover(t, certs, "alice@example.org", "wonderland")
	fresh := []iceServer{{"turn:" + relayIPv4 + ":" + turn.port, turn.username, turn.password}}
	for _, u := range []participant{alice, bob} {
		u.do(t, nil, "setServers", fresh)
	}
	describe(t, alice, bob, map[string]any{"iceRestart": true})
	for _, u := range []participant{alice, bob} {
		u.do(t, nil, "movedFrom", relayAddress(relays, u))
	}
	hearMore(t, alice, bob)
	moved := s.waitFor(t, s.stderr, "allocation.relay="+alice.report(t).LocalAddress+" allocation.lifetime=")
	if !strings.Contains(moved, "allocation.client=10.75.1.3:") {
		t.Errorf("alice's new allocation is not from her new address: %s", moved)
	}
	for _, u := range []participant{alice, bob} {
		r := u.report(t)
		r.wantRelayed(t, u.kind, "udp")
		t.Logf("%s: %s, %+v", u.kind, r.figures(), r.States)
	}
}

// stayInCall lets the call go on for as long as the environment variable MAILTURN_CALL says: more than 10m is what channel
// bindings live without being refreshed, which clients do by timers of their own. It is not long by default.
func stayInCall(t *testing.T, users ...participant) {
	t.Helper()
	length, err := time.ParseDuration(cmp.Or(os.Getenv("MAILTURN_CALL"), "0s"))
	if err != nil {
		t.Fatalf("MAILTURN_CALL: %v", err)
	}
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Second) {
		hearMore(t, users...)
	}
	for _, u := range users {
		if r := u.report(t); r.State != "connected" || slices.Contains(r.States, "disconnected") {
			t.Errorf("%s: the call was interrupted: %q", u.kind, r.States)
		}
	}
}

// relayAddress is the relayed address of a user.
func relayAddress(relays map[string]participant, of participant) string {
	for address, u := range relays {
		if u == of {
			return address
		}
	}
	return ""
}

// move gives the user's link another address.
func (ns namespace) move(t *testing.T, from, to, router string) {
	t.Helper()
	for _, args := range [][]string{
		{"address", "delete", from, "dev", "uplink"},
		{"address", "add", to, "dev", "uplink"},
		{"route", "replace", "default", "via", router},
	} {
		if out, err := exec.Command("ip", append([]string{"-n", string(ns)}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
}
