package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The load is that of the row "voice" of the benchmark.
const (
	voiceCalls   = 100
	voiceEvery   = 20 * time.Millisecond
	voicePayload = 172 // of Opus and RTP, in bytes
)

// Most of many calls are quiet: their clients only keep them alive.
const (
	manyCalls  = 3000
	quietEvery = 5 * time.Second
	// callsOfPeer is the number of quiet calls with one peer.
	callsOfPeer = 50
)

// TestUpgradeUnderLoad upgrades a relay as often as MAILTURN_UPGRADES says, to and fro between two builds, while it relays a hundred calls,
// and then again with 2,900 more, which are quiet: no packet is lost. It adds what it found to the file that MAILTURN_UPGRADE_TABLE names.
// It takes two minutes, so only .ci/full sets these.
func TestUpgradeUnderLoad(t *testing.T) {
	count := os.Getenv("MAILTURN_UPGRADES")
	if count == "" {
		return
	}
	upgrades, err := strconv.Atoi(count)
	if err != nil {
		t.Fatalf("MAILTURN_UPGRADES: %v", err)
	}
	builds := []string{binary, otherBuild(t)}
	for _, calls := range []int{voiceCalls, manyCalls} {
		t.Run(fmt.Sprint(calls), func(t *testing.T) { upgradeUnderLoad(t, builds, calls, upgrades) })
	}
}

// upgradeUnderLoad upgrades with a number of calls, of which all beyond a hundred are quiet.
func upgradeUnderLoad(t *testing.T, builds []string, calls, upgrades int) {
	p, stateDir := freePorts(t), t.TempDir()
	i := newInstallation(t, builds[0], configure(t, p, allowLoopback+"\n  kernel_path = \"off\"\n  user_quota = 5000\n  unauthenticated_rate = 0", ""))
	i.start(t, stateDir)
	alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	var streams, quietStreams []*checkedStream
	stop := make(chan struct{})
	var running sync.WaitGroup
	var peer net.Addr
	for k := range calls - voiceCalls {
		if k%callsOfPeer == 0 {
			peer = echoingPeer(t)
		}
		s := beginStream(t, p, "udp", alice, peer)
		s.every = quietEvery
		quietStreams = append(quietStreams, s)
	}
	for range voiceCalls {
		s := beginStream(t, p, "udp", alice, echoingPeer(t)) // whose buffer is not shared, so that it loses nothing
		s.every, s.padding = voiceEvery, make([]byte, voicePayload-8)
		streams = append(streams, s)
	}
	for _, s := range slices.Concat(streams, quietStreams) {
		running.Go(func() { s.run(stop) })
	}
	longest := func() (gap time.Duration) {
		for _, s := range streams {
			gap = max(gap, s.takeLongest())
		}
		return gap
	}
	pause := func() { time.Sleep(time.Second) } // with calls and nothing else
	pause()
	longest()
	for range upgrades {
		pause()
	}
	quiet, interrupted := longest(), time.Duration(0)
	sessions := i.sessions(t)
	for k := range upgrades {
		i.replace(t, builds[(k+1)%2])
		interrupted = max(interrupted, i.upgrade(t))
		pause()
		if after := i.sessions(t); len(after) != len(sessions) {
			t.Fatalf("after upgrade %d, there are %d sessions, want %d", k+1, len(after), len(sessions))
		}
	}
	busy := longest()
	close(stop)
	running.Wait()
	var sent, lost, swapped uint64
	for _, s := range slices.Concat(streams, quietStreams) {
		sent, lost, swapped = sent+s.sent, lost+s.sent-s.back, swapped+s.swapped
	}
	t.Logf("%d of %d packets lost, %d out of order; longest gap %v without upgrades, %v with; interrupted for up to %v", lost, sent, swapped, quiet, busy, interrupted)
	if lost > 0 || swapped > 0 || sent < voiceCalls*100 {
		t.Errorf("%d of %d packets were lost, %d out of order", lost, sent, swapped)
	}
	if busy > upgradeGap+2*quiet {
		t.Errorf("a gap of %v, want at most %v", busy, upgradeGap)
	}
	if file := os.Getenv("MAILTURN_UPGRADE_TABLE"); file != "" && !t.Failed() {
		commit, load := measuredAt(t)
		section := loadSection
		if calls > voiceCalls {
			section = manySection
		}
		addLoad(t, file, fmt.Sprintf(section+loadTable, time.Now().UTC().Format("2006-01-02 15:04 MST"), commit, load, upgrades, sent, lost,
			milliseconds(quiet), milliseconds(busy), milliseconds(interrupted)))
	}
}

// measuredAt returns the commit, and the load average of the machine.
func measuredAt(t *testing.T) (commit []byte, load string) {
	t.Helper()
	commit, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(commit), strings.Fields(string(text))[0]
}

// addLoad writes the section about the load at the end of the page, in place of the one that may be there.
func addLoad(t *testing.T, file, section string) {
	t.Helper()
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	heading, _, _ := strings.Cut(section, "\n")
	page, _, _ = bytes.Cut(page, []byte("\n"+heading+"\n"))
	if err := os.WriteFile(file, append(page, "\n"+section...), 0o644); err != nil {
		t.Fatal(err)
	}
}

const loadSection = `## A hundred calls

The relay has the load of the row "voice" of [speed.md](speed.md): 100 clients each send 50 packets a second over UDP to a peer, which
sends them back. All programs run on one machine, without the kernel path. "Longest gap" is the longest time without a packet to
one of the clients, of which 20 ms are the interval between packets.
`

const manySection = `## 3,000 calls

There are 2,900 more calls, which are quiet: each sends a packet every 5 seconds. "Longest gap" is that of the hundred.
`

const loadTable = `
| | |
| --- | --- |
| measured | %s |
| commit | %s |
| load average | %s |
| upgrades | %d |
| packets sent by the clients | %d |
| packets lost or late | %d |
| longest gap without upgrades | %.0f ms |
| longest gap with upgrades | %.0f ms |
| longest interruption | %.0f ms |
`
