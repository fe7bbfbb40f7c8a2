package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

// clusterPIDs returns the processes of machines.
func clusterPIDs(t *testing.T, machines []*installation) (pids []int) {
	t.Helper()
	for _, i := range machines {
		status, err := i.status()
		must(t, err)
		pids = append(pids, status.PID)
	}
	return pids
}

// TestUpgradeCluster upgrades three machines during calls on each, from one of them. One that allows no upgrade, and one whose new
// program does not start, end that before the machines after them.
func TestUpgradeCluster(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("upgrades need Linux")
	}
	redisServer := redistest.Start(t)
	peer := echoingPeer(t)
	var machines []*installation
	var streams []*checkedStream
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		p := freePorts(t)
		config := configure(t, p, allowLoopback, "")
		text, err := os.ReadFile(config)
		must(t, err)
		text = fmt.Appendf(text, "cluster {\n  redis = [\"redis://%s\"]\n  name = %q\n  turn_server = \"127.0.0.1\"\n}\n", redisServer.Addr, name)
		must(t, os.WriteFile(config, text, 0o600))
		i := newInstallation(t, binary, config)
		i.start(t, t.TempDir())
		machines = append(machines, i)
		for _, network := range []string{"udp", "tcp"} {
			s := beginStream(t, p, network, minted("127.0.0.1"), peer)
			streams = append(streams, s)
			running.Go(func() { s.run(stop) })
		}
	}
	last := machines[2]
	upgrade := func(want string) {
		t.Helper()
		out, err := exec.Command(last.program, "upgrade", "--cluster", "--socket", last.socket).CombinedOutput()
		if (err == nil) != (want == "") || !strings.Contains(string(out), want) {
			t.Fatalf("mailturn upgrade --cluster: %v\n%s\nwant %q", err, out, want)
		}
		t.Logf("%s", out)
	}
	clusterMachine{config: last.config, server: &server{stderr: last.log}}.awaitRelay(t, startLimit, "a", "serving")
	clusterMachine{config: last.config, server: &server{stderr: last.log}}.awaitRelay(t, startLimit, "b", "serving")
	before := clusterPIDs(t, machines)
	upgrade("")
	after := clusterPIDs(t, machines)
	for i := range machines {
		if before[i] == after[i] {
			t.Errorf("machine %d was not upgraded", i)
		}
	}

	// The second one fails.
	broken := filepath.Join(t.TempDir(), "broken")
	must(t, os.WriteFile(broken, []byte("#!/bin/sh\nexit 3\n"), 0o700))
	machines[1].replace(t, broken)
	upgrade("Upgraded before: a. Every other machine was left as it was")
	latest := clusterPIDs(t, []*installation{machines[0], last})
	if latest[0] == after[0] || latest[1] != after[2] {
		t.Errorf("the processes are %v, and were %v: want another one on the first machine only", latest, after)
	}
	machines[1].replace(t, binary)

	// The first one refuses.
	text, err := os.ReadFile(machines[0].config)
	must(t, err)
	must(t, os.WriteFile(machines[0].config, []byte(strings.Replace(string(text), "cluster {", "cluster {\n  allow_upgrade = false", 1)), 0o600))
	must(t, machines[0].ctl(nil, "ctl", "reload"))
	upgrade("a: allow_upgrade is false in its cluster block\nUpgraded before: none")
	if end := clusterPIDs(t, machines); end[0] != latest[0] || end[1] != after[1] || end[2] != after[2] {
		t.Errorf("the processes are %v after a refused upgrade", end)
	}

	close(stop)
	running.Wait()
	for _, s := range streams {
		if longest := s.takeLongest(); s.back != s.sent || s.swapped > 0 || longest > 2*time.Second {
			t.Errorf("%s: %d of %d packets came back, %d of them out of order; the longest gap was %v", s.name, s.back, s.sent, s.swapped, longest)
		}
	}
}
