package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
)

// upgradedCall is what TestBrowsersUpgrade has found about a call.
type upgradedCall struct {
	path        string        // kernel_path
	version     string        // of the browsers
	kernel      int           // percent of the packets that the kernel relayed
	sent, lost  [2]int        // packets to each browser
	rtp         [2]int        // of which RTP says that they were lost
	quiet, busy time.Duration // longest time that a packet took from browser to browser, without upgrades and with them
	interrupted time.Duration // longest interruption, as mailturn reports it
}

// TestBrowsersUpgrade upgrades the relay of a call between two browsers as often as MAILTURN_UPGRADES says, to and fro between two builds: no
// packet is lost, and none waits for long. It writes what it found to the file that MAILTURN_UPGRADE_TABLE names. It takes minutes, so only
// .ci/full sets these; TestUpgrade checks the same with streams of its own.
func TestBrowsersUpgrade(t *testing.T) {
	count := os.Getenv("MAILTURN_UPGRADES")
	if count == "" {
		return
	}
	upgrades, err := strconv.Atoi(count)
	if err != nil {
		t.Fatalf("MAILTURN_UPGRADES: %v", err)
	}
	paths := []string{"off"}
	if kernelRelays() {
		paths = append(paths, "on")
	}
	builds := []string{binary, otherBuild(t)}
	n := newCallNetwork(t)
	certs := newCertificates(t)
	alice, bob := startBrowser(t, browser.Chromium, n.alice, certs.ca), startBrowser(t, browser.Chromium, n.bob, certs.ca)
	var all []upgradedCall
	for _, path := range paths {
		t.Run("kernel path "+path, func(t *testing.T) {
			i := newInstallation(t, builds[0], configureNetwork(t, certs.block(), fmt.Sprintf("kernel_path = %q", path)))
			i.network = n.relay
			i.start(t, t.TempDir())
			all = append(all, callDuringUpgrades(t, n, i, builds, upgrades, alice, bob))
			all[len(all)-1].path = path
		})
	}
	if file := os.Getenv("MAILTURN_UPGRADE_TABLE"); file != "" && !t.Failed() {
		writeUpgraded(t, file, upgrades, all)
	}
}

func callDuringUpgrades(t *testing.T, n callNetwork, i *installation, builds []string, upgrades int, alice, bob participant) (r upgradedCall) {
	t.Helper()
	r.version = alice.version
	users := []participant{alice, bob}
	username := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	servers := []iceServer{{"turn:" + relayIPv4 + ":3478", username, mint(username)}}
	videoCall(t, alice, bob, servers, servers)
	hearMore(t, users...)
	counts := []*dataCount{n.alice.countData(t), n.bob.countData(t)}
	take := func() (sent, received [2]int) {
		for i, c := range counts {
			sent[i], received[i] = c.counts()
		}
		return sent, received
	}
	delay := func() time.Duration { return max(takeDelay(counts[0], counts[1]), takeDelay(counts[1], counts[0])) }
	hearMore(t, users...)
	before, heard := take()
	sessions := i.sessions(t)
	delay()
	for range upgrades {
		hearMore(t, users...) // a second or more, as after an upgrade
	}
	r.quiet = delay()
	for k := range upgrades {
		i.replace(t, builds[(k+1)%2])
		r.interrupted = max(r.interrupted, i.upgrade(t))
		hearMore(t, users...)
		if after := i.sessions(t); len(after) != len(sessions) || after[0].Relayed != sessions[0].Relayed {
			t.Fatalf("after upgrade %d, the sessions are\n%+v\nwant\n%+v", k+1, after, sessions)
		}
	}
	r.busy = delay()
	for _, u := range users {
		u.do(t, nil, "mute")
	}
	for _, u := range users {
		u.do(t, nil, "settled")
	}
	sent, received := take()
	for to := range users {
		from := 1 - to
		r.sent[to] = sent[from] - before[from]
		r.lost[to] = max(r.sent[to]-(received[to]-heard[to]), 0) // one may have been on its way when the test began to count
	}
	allPackets, kernel := n.relayedPackets(t)
	r.kernel = int(100 * kernel / max(allPackets, 1))
	for at, u := range users {
		report := u.report(t)
		report.wantRelayed(t, u.kind, "udp")
		if report.State != "connected" || strings.Contains(strings.Join(report.States, " "), "disconnected") {
			t.Errorf("%s: the call was interrupted: %q", u.kind, report.States)
		}
		_, r.rtp[at] = report.packets()
		u.do(t, nil, "close")
	}
	t.Logf("%+v", r)
	for to := range users {
		if r.lost[to] > 0 || r.sent[to] < 100 {
			t.Errorf("%d of %d packets to user %d were lost", r.lost[to], r.sent[to], to)
		}
	}
	if r.busy > upgradeGap+2*r.quiet {
		t.Errorf("a packet took %v, want at most %v", r.busy, upgradeGap)
	}
	return r
}

// writeUpgraded writes the page about calls of browsers during upgrades.
func writeUpgraded(t *testing.T, file string, upgrades int, calls []upgradedCall) {
	t.Helper()
	commit, load := measuredAt(t)
	var b strings.Builder
	fmt.Fprintf(&b, upgradedPage, time.Now().UTC().Format("2006-01-02 15:04 MST"), commit, "Chromium "+calls[0].version, upgrades, load)
	for _, c := range calls {
		fmt.Fprintf(&b, "| %s | %d %% | %d and %d | %d and %d | %d and %d | %.0f ms | %.0f ms | %.0f ms |\n", c.path, c.kernel, c.sent[0], c.sent[1],
			c.lost[0], c.lost[1], c.rtp[0], c.rtp[1], milliseconds(c.quiet), milliseconds(c.busy), milliseconds(c.interrupted))
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

const upgradedPage = `# Calls during upgrades

` + "`.ci/full upgrades`" + ` writes this file. Two browsers call each other over one relay, both by UDP, with audio, video and a data channel,
in network namespaces of their own. The relay first runs undisturbed, and is then upgraded to and fro between two builds. Packets are
counted on the links of the browsers. "Slowest packet" is the longest time from when a packet left one browser until the other
received it, and "longest interruption" is what ` + "`mailturn upgrade`" + ` reported. Both depend on what else the machine does. The load
average, on two processors, is that at the end.

| | |
| --- | --- |
| measured | %s |
| commit | %s |
| browsers | %s |
| upgrades | %d during each call |
| load average | %s |

| ` + "`kernel_path`" + ` | relayed by the kernel | packets to each browser | lost by the relay | lost as RTP counts | slowest packet without upgrades | with upgrades | longest interruption |
| --- | --- | --- | --- | --- | --- | --- | --- |
`
