package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reloads is how often TestReloadAndDrainUnderLoad has the server read its configuration.
const reloads = 100

// TestReloadAndDrainUnderLoad has calls with as many packets as a test can count, during which the server reads its configuration a
// hundred times and is then asked to end. The calls lose nothing that they would not have lost otherwise, and the server ends when
// the last one has.
func TestReloadAndDrainUnderLoad(t *testing.T) {
	const allocations, pps = 100, 100 // each packet passes the server twice
	stateDir, p := t.TempDir(), freePorts(t)
	path := configure(t, p, allowLoopback+manyAllocations, "")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(`drain_timeout = "1s"`, `drain_timeout = "1m"`, `level = "debug"`, `level = "info"`).Replace(string(text))
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, stateDir, "--config", path)
	relay := fmt.Sprintf("127.0.0.1:%d", p.turn)

	undisturbed := startCalls(t, relay, allocations, pps, 3*time.Second)
	noise := float64(undisturbed.wait(t)) / float64(undisturbed.Sent)

	running := startCalls(t, relay, allocations, pps, 6*time.Second)
	begin := time.Now()
	for i := range reloads {
		// An attribute that a reload replaces for running calls.
		rewrite(t, s, path, fmt.Sprintf("user_quota = %d\n", 10000*(i%2)), fmt.Sprintf("user_quota = %d\n", 10000*((i+1)%2)), "msg=reloaded")
	}
	t.Logf("%d reloads took %v", reloads, time.Since(begin).Round(time.Millisecond))
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.waitFor(t, s.stderr, "msg=draining")
	select {
	case <-running.done:
		t.Error("the calls had ended before the drain")
	default:
	}
	lost := running.wait(t)
	if loss := float64(lost) / float64(running.Sent); loss > 2*noise+0.0002 {
		t.Errorf("lost %d of %d packets, and %d of %d without reloads", lost, running.Sent, undisturbed.Sent-undisturbed.Received, undisturbed.Sent)
	}
	t.Logf("99 %% of the packets came back within %v, and within %v without reloads", running.RTT.Percentile(0.99), undisturbed.RTT.Percentile(0.99))
	select {
	case err := <-s.exited:
		if err != nil {
			t.Errorf("the server ended with %v", err)
		}
		s.exited <- err
	case <-time.After(stopLimit):
		t.Error("the server did not end when the calls had")
	}
}
