package e2e

import (
	"os"
	"strings"
	"sync"
	"testing"
)

// TestUpgradeUsage checks that mailturn counts everything that is relayed right up to an upgrade and right after it.
func TestUpgradeUsage(t *testing.T) {
	t.Parallel()
	p, stateDir := freePorts(t), t.TempDir()
	i := newInstallation(t, binary, configure(t, p, allowLoopback, ""))
	text, err := os.ReadFile(i.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(i.config, []byte(strings.Replace(string(text), "\ncontrol {", "\ncontrol {\n  usage = \"48h\"", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	i.start(t, stateDir)
	alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	peer := echoingPeer(t)
	streams := []*checkedStream{beginStream(t, p, "udp", alice, peer), beginStream(t, p, "tcp", alice, peer)}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, s := range streams {
		s.padding = make([]byte, voicePayload-8)
		running.Go(func() { s.run(stop) })
	}
	for range 3 {
		i.upgrade(t)
	}
	close(stop)
	running.Wait()
	var packets uint64
	for _, s := range streams {
		if s.back != s.sent || s.sent == 0 {
			t.Fatalf("%s: %d of %d packets came back", s.name, s.back, s.sent)
		}
		packets += s.sent
		if _, err := s.client.Refresh(t.Context(), 0); err != nil { // ends the allocation, and with it what is not counted yet
			t.Fatal(err)
		}
	}
	var report struct {
		Usage []struct {
			ToPeerBytes     uint64 `json:"to_peer_bytes"`
			ToPeerPackets   uint64 `json:"to_peer_packets"`
			ToClientBytes   uint64 `json:"to_client_bytes"`
			ToClientPackets uint64 `json:"to_client_packets"`
		}
	}
	if err := i.ctl(&report, "ctl", "usage", "--days", "2"); err != nil { // it may be midnight
		t.Fatal(err)
	}
	var got [4]uint64
	for _, u := range report.Usage {
		for k, n := range [...]uint64{u.ToPeerBytes, u.ToPeerPackets, u.ToClientBytes, u.ToClientPackets} {
			got[k] += n
		}
	}
	if want := [...]uint64{packets * voicePayload, packets, packets * voicePayload, packets}; got != want {
		t.Errorf("bytes and packets to peers and clients: got %d, want %d", got, want)
	}
}
