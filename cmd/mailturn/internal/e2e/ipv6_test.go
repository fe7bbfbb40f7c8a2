package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// configureBoth writes a configuration of a relay with an address of each family of loopback, which listens on both.
func configureBoth(t *testing.T, p ports) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "maddy.conf")
	text := fmt.Sprintf(`
hostname = "localhost"
log {
  level = "debug"
}
endpoint "turn" "turn" {
  listen = [
    "udp://0.0.0.0:%[1]d", "tcp://0.0.0.0:%[1]d", "tls://0.0.0.0:%[1]d", "dtls://0.0.0.0:%[1]d",
    "udp://[::]:%[1]d", "tcp://[::]:%[1]d", "tls://[::]:%[1]d", "dtls://[::]:%[1]d",
  ]
  realm         = "example.org"
  secret        = %[2]q
  relay_ip      = ["127.0.0.1", "::1"]
  drain_timeout = "1s"
  user_quota    = 0
  peers {
    allow = ["127.0.0.0/8", "::1/128"]
  }
}
`, p.turn, secret)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// minted is a credential of an hour for a server on host.
func minted(host string) credential {
	username := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	return credential{host: host, username: username, password: mint(username)}
}

// TestFamilies relays between clients and peers of either family, over every transport.
func TestFamilies(t *testing.T) {
	t.Parallel()
	needIPv6(t)
	eachUclient(t, testFamilies)
}

func testFamilies(t *testing.T, program uclientProgram) {
	p := freePorts(t)
	start(t, t.TempDir(), "--config", configureBoth(t, p))
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) { program.testFamilies(t, transport, p.turn) })
	}
}

// testFamilies runs the client between all families at once, since it mostly waits.
func (p uclientProgram) testFamilies(t *testing.T, over transport, port int) {
	const clients, messages = 2, 10
	tests := []struct {
		name, server, peer string
		options            []string
	}{
		{"IPv4 to IPv4", "127.0.0.1", "127.0.0.1", []string{"-X"}},
		{"IPv4 to IPv6", "127.0.0.1", "::1", []string{"-x"}},
		{"IPv6 to IPv6", "::1", "::1", []string{"-x"}},
		{"IPv6 to IPv4", "::1", "127.0.0.1", []string{"-X"}},
		{"IPv6 to IPv4 that was not asked for", "::1", "127.0.0.1", nil},
		{"IPv4 of another address", "127.0.0.2", "127.0.0.1", nil},
		// One allocation with an address of each family (ADDITIONAL-ADDRESS-FAMILY), and a peer of the additional one.
		{"dual allocation", "127.0.0.1", "::1", []string{"-Z"}},
	}
	checks := make([]func(*testing.T), len(tests))
	for i, tt := range tests {
		peerPort, count := echoPeerOn(t, tt.peer)
		options := []string{"-e", tt.peer, "-r", strconv.Itoa(peerPort), "-n", strconv.Itoa(messages), "-m", strconv.Itoa(clients), "-l", "170"}
		run := p.start(t, minted(tt.server), port, slices.Concat(options, tt.options, over.options)...)
		checks[i] = func(t *testing.T) {
			run.wait(t).wantAll(t, clients*messages)
			if got := count(); got != clients*messages {
				t.Errorf("the peer got %d datagrams, want %d", got, clients*messages)
			}
			family := map[bool]string{true: "IPv6", false: "IPv4"}[strings.Contains(tt.server, ":")]
			interop.Record(t, interop.Cell{
				Kind: interop.Client, Name: p.name, Version: p.version, How: bySharedSecret,
				Transport: over.name, Family: family, Control: refusedUclient,
			})
		}
	}
	between := p.start(t, minted("::1"), port, append([]string{"-y", "-x", "-n", "10", "-m", "2"}, over.options...)...)
	for i, tt := range tests {
		t.Run(tt.name, checks[i])
	}
	t.Run("between two clients", func(t *testing.T) { between.wait(t).wantAllBack(t) })
}
