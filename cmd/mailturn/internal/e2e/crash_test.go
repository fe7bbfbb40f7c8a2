package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestCrash kills the server in the middle of calls. The first request after the restart is answered with 437, with the nonce from
// before; nobody else gets the ports of the calls, to which their peers still send; and the log says how long the calls were
// interrupted. A stop that cuts calls leaves the same.
func TestCrash(t *testing.T) {
	t.Parallel()
	free := freePorts(t)
	stateDir := t.TempDir()
	config := filepath.Join(t.TempDir(), "maddy.conf")
	text := fmt.Sprintf(`
endpoint "turn" "turn" {
  listen      = "udp://127.0.0.1:%d"
  realm       = "example.org"
  secret      = %q
  relay_ip    = "127.3.7.1"
  relay_ports = "49152-49159"
}
endpoint "http" "http" {
  listen = "http://127.0.0.1:%d"
}
`, free.turn, secret, free.imap)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	call := func(resting map[uint16]bool) (*turnclient.Client, uint16) {
		t.Helper()
		c := turnClient(t, free, minted("127.0.0.1"))
		allocation, err := c.Allocate(ctx)
		if err != nil {
			t.Fatal(err)
		}
		relayed := allocation.Relayed.Port()
		if resting[relayed] {
			t.Errorf("the relayed address of an interrupted call, port %d, was given to another client", relayed)
		}
		return c, relayed
	}
	interrupted := func(s *server, cause string, clients []*turnclient.Client) {
		t.Helper()
		if line := s.waitFor(t, s.stderr, `msg="calls were interrupted"`); !strings.Contains(line, "cause="+cause+" allocations=3") || !strings.Contains(line, "interruption=") {
			t.Errorf("the log says %q", line)
		}
		for _, c := range clients {
			if _, err := c.Refresh(ctx, time.Minute); turnclient.Code(err) != stun.CodeAllocationMismatch {
				t.Errorf("Refresh after the restart: %v, want 437", err)
			}
		}
		_, metrics := ask(t, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d/metrics", free.imap))
		if !strings.Contains(metrics, `code="437"`) || strings.Contains(metrics, `code="438"`) {
			t.Errorf("437 was not the first answer; metrics:\n%s", metrics)
		}
	}

	s := start(t, stateDir, "--config", config)
	resting := make(map[uint16]bool)
	var clients []*turnclient.Client
	for range 3 {
		c, relayed := call(nil)
		clients, resting[relayed] = append(clients, c), true
	}
	for files, _ := filepath.Glob(filepath.Join(stateDir, "ports-*")); ; { // the relay does not wait until it is written
		if file, err := os.ReadFile(files[0]); err != nil {
			t.Fatal(err)
		} else if bytes.Count(file[64:], []byte{1}) == len(clients) {
			break
		}
		if err := ctx.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.exited

	s = start(t, stateDir, "--config", config)
	interrupted(s, "crash", clients)
	clients = nil
	for range 3 {
		c, relayed := call(resting)
		clients, resting[relayed] = append(clients, c), true
	}
	s.stop(t) // which cuts these calls, because there is no drain_timeout

	s = start(t, stateDir, "--config", config)
	interrupted(s, "stop", clients)
	for range 2 {
		_, relayed := call(resting)
		resting[relayed] = true
	}
	if _, err := turnClient(t, free, minted("127.0.0.1")).Allocate(ctx); turnclient.Code(err) != stun.CodeInsufficientCapacity {
		t.Errorf("when all free ports are in use: %v, want 508", err)
	}

	// A file that cannot be read does not prevent a start.
	s.stop(t)
	files, err := filepath.Glob(filepath.Join(stateDir, "ports-*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files of ports: %v, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = start(t, stateDir, "--config", config)
	s.waitFor(t, s.stderr, "the record of relayed ports was refused")
	call(nil)
}
