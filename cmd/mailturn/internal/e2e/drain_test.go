package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestDrainWithAnotherRelay drains one of two relays that accept the same credentials. At once, /readyz fails and the issuers hand out
// the other one, and coturn's client, which still has the address of the first, calls through the other (RFC 8489 section 10).
func TestDrainWithAnotherRelay(t *testing.T) {
	t.Parallel()
	client := hostUclient(t)
	here, there := freePorts(t), freePorts(t)
	echo, _ := echoPeer(t)
	start(t, t.TempDir(), "--config", configure(t, there, allowLoopback+manyAllocations, ""))

	stateDir := t.TempDir()
	path := filepath.Join(t.TempDir(), "maddy.conf")
	relays := fmt.Sprintf(`
  relay {
    turn_server = "127.0.0.1"
    weight      = 1000
  }
  relay {
    turn_server     = "127.0.0.1"
    turn_port       = %d
    turns_port      = %d
    turn_transports = ["udp", "tcp"]
    turn_secret     = %q
  }
`, there.turn, there.turns, secret)
	text := fmt.Sprintf(`
hostname = "localhost"
control {
  path = "control.socket"
}
endpoint "turn" "turn" {
  listen   = ["udp://127.0.0.1:%d", "tcp://127.0.0.1:%d", "tls://127.0.0.1:%d"]
  realm    = "example.org"
  secret   = %q
  relay_ip = "127.0.0.1"
  %s
}
endpoint "imap" "imap" {
  listen = "tls://127.0.0.1:%d"
  embedded {
    users = {
      "alice@example.org" = "wonderland"
    }
  }
  %s
}
endpoint "http" "http" {
  listen   = "http://127.0.0.1:%d"
  api_keys = %q
  %s
}
`, here.turn, here.turn, here.turns, secret, allowLoopback+manyAllocations, here.imaps, relays, here.imap, apiKey, relays)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, stateDir, "--config", path)
	url := fmt.Sprintf("http://127.0.0.1:%d", here.imap)
	told := func(when string, port int, ready int) (c credential) {
		t.Helper()
		c, _ = discover(t, here, stateDir, "alice@example.org", "wonderland")
		if c.port != strconv.Itoa(port) {
			t.Errorf("%s: the IMAP endpoint tells port %s, want %d", when, c.port, port)
		}
		if status, body := ask(t, http.DefaultClient, url+"/turn?service=turn&username=alice"); status != http.StatusOK || !strings.Contains(body, fmt.Sprintf(":%d?", port)) {
			t.Errorf("%s: the HTTP endpoint answers %d %s, want port %d", when, status, body, port)
		}
		if status, _ := ask(t, http.DefaultClient, url+"/readyz"); status != ready {
			t.Errorf("%s: /readyz answers %d, want %d", when, status, ready)
		}
		return c
	}
	drain := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(binary, append([]string{"ctl", "--config", path, "drain"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("ctl drain: %v\n%s", err, out)
		}
	}
	old := told("before the drain", here.turn, http.StatusOK)
	drain()
	told("during the drain", there.turn, http.StatusServiceUnavailable)
	var runs []uclientRun
	for _, way := range []struct {
		port    int
		options []string
	}{{here.turn, []string{"-X"}}, {here.turn, []string{"-t"}}, {here.turns, []string{"-t", "-S"}}} {
		options := append(way.options, "-c", "-e", "127.0.0.1", "-r", strconv.Itoa(echo), "-n", "5", "-m", "1")
		runs = append(runs, client.start(t, old, way.port, options...))
	}
	for _, run := range runs {
		run.wait(t).wantAll(t, 5)
	}
	_, metrics := ask(t, http.DefaultClient, url+"/metrics")
	if !strings.Contains(metrics, `code="300"`) || strings.Contains(metrics, `code="508"`) {
		t.Errorf("the client was not answered with 300; metrics:\n%s", metrics)
	}
	drain("--off")
	told("after the drain", here.turn, http.StatusOK)
}
