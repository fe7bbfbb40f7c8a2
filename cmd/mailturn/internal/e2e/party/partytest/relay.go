// Package partytest tests parties of calls with a mailturn on loopback.
package partytest

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
)

const (
	host   = "127.0.0.1"
	secret = "a secret of 32 bytes for the tests"
)

// Relay is a running mailturn.
type Relay struct {
	*daemon.Daemon
	port int
}

// StartRelay builds mailturn and runs it on loopback, for UDP and TCP, until the test ends.
func StartRelay(t *testing.T) Relay {
	t.Helper()
	dir := t.TempDir()
	mailturn, config := filepath.Join(dir, "mailturn"), filepath.Join(dir, "maddy.conf")
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/mailturn/mailturn").Output()
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", mailturn, "./cmd/mailturn")
	build.Dir = strings.TrimSpace(string(module)) // also in a module that only requires it
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build mailturn: %v\n%s", err, out)
	}
	port, err := daemon.FreePort(host)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
hostname = "mailturn.example.org"
log {
  level = "debug"
}
endpoint "turn" "turn" {
  listen        = ["udp://%[1]s:%[2]d", "tcp://%[1]s:%[2]d"]
  secret        = %[3]q
  relay_ip      = [%[1]q]
  drain_timeout = "1s"
  peers {
    allow = ["127.0.0.0/8"]
  }
}
`, host, port, secret)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := daemon.Start(t.Context(), exec.Command(mailturn, "run", "--state-dir", filepath.Join(dir, "state"), "--config", config), "msg=ready")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("mailturn's log:\n%s", d.Log())
		}
	})
	return Relay{d, port}
}

// servers returns the relay with a credential of its own, for a transport.
func (r Relay) servers(transport string) []party.Server {
	username := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(username))
	return []party.Server{{
		URLs:     []string{fmt.Sprintf("turn:%s:%d?transport=%s", host, r.port, transport)},
		Username: username, Credential: base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	}}
}
