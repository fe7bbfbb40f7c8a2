package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/process"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"golang.org/x/sys/unix"
)

// takeDescriptors makes a process unable to open another descriptor until giveBack is called.
func takeDescriptors(t *testing.T, pid int) (giveBack func()) {
	t.Helper()
	free := 0
	for ; ; free++ {
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", pid, free)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		t.Fatal(err)
	}
	set := func(limit unix.Rlimit) {
		t.Helper()
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
			t.Fatal(err)
		}
	}
	set(unix.Rlimit{Cur: uint64(free), Max: before.Max})
	return func() { set(before) }
}

// TestDescriptorsRunOut takes the descriptors from a relay on which calls are running: new allocations are refused, new connections
// are closed, and the calls lose nothing. When there are descriptors again, it serves everybody.
func TestDescriptorsRunOut(t *testing.T) {
	stateDir, p := t.TempDir(), freePorts(t)
	cmd := exec.Command(binary, "run", "--state-dir", stateDir, "--config", configure(t, p, allowLoopback+manyAllocations, ""))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // for process.During
	s := startCommand(t, cmd)
	relay, pid := fmt.Sprintf("127.0.0.1:%d", p.turn), s.cmd.Process.Pid
	running := startCalls(t, relay, 20, 50, 7*time.Second)
	giveBack := takeDescriptors(t, pid)

	allocate := func(network string) error {
		client, err := dialRelay(t.Context(), network, relay)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := client.Challenge(ctx); err != nil {
			return err
		}
		_, err = client.Allocate(ctx)
		return err
	}
	begin := time.Now()
	usage, err := process.During(pid, func() error {
		for range 20 {
			if err := allocate("udp"); turnclient.Code(err) != stun.CodeInsufficientCapacity {
				t.Errorf("an allocation: %v, want 508", err)
			}
		}
		var closing sync.WaitGroup
		for range 6 {
			conn, err := net.Dial("tcp", relay)
			if err != nil {
				t.Fatal(err)
			}
			closing.Go(func() {
				defer conn.Close()
				_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("a connection got %d bytes, %v, want it closed", n, err)
				}
			})
		}
		closing.Wait()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if busy := float64(usage.CPU) / float64(time.Since(begin)); busy > 0.5 {
		t.Errorf("the server computes for %.2f of the time", busy)
	}
	log := s.stderr.String()
	for _, line := range []string{"cannot open a relayed address", "cannot accept connections"} {
		if n := strings.Count(log, line); n != 1 {
			t.Errorf("the log says %q %d times, want once in a minute", line, n)
		}
	}

	giveBack()
	for _, network := range []string{"udp", "tcp"} {
		if err := allocate(network); err != nil {
			t.Errorf("when there are descriptors again, over %s: %v", network, err)
		}
	}
	if lost := running.wait(t); lost != 0 {
		t.Errorf("the calls lost %d of %d packets", lost, running.Sent)
	}
}
