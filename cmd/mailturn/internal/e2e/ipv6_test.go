package e2e

import (
	"fmt"
	"os"
	"path/filepath"
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
	p := freePorts(t)
	start(t, t.TempDir(), "--config", configureBoth(t, p))
	peer(t, "turnutils_uclient", "coturn")
	version := programVersion(t, peer(t, "turnserver", "coturn"), "--version")
	for _, tt := range []struct {
		name, server, peer string
		options            []string
	}{
		{"IPv4 to IPv6", "127.0.0.1", "::1", []string{"-x"}},
		{"IPv6 to IPv6", "::1", "::1", []string{"-x"}},
		{"IPv6 to IPv4", "::1", "127.0.0.1", []string{"-X"}},
		{"IPv6 to IPv4 that was not asked for", "::1", "127.0.0.1", nil},
		{"IPv4 of another address", "127.0.0.2", "127.0.0.1", nil},
	} {
		for _, transport := range transports {
			t.Run(tt.name+" over "+transport.name, func(t *testing.T) {
				t.Parallel()
				const clients, messages = 2, 10
				port, count := echoPeerOn(t, tt.peer)
				options := append([]string{"-e", tt.peer, "-r", strconv.Itoa(port), "-n", strconv.Itoa(messages), "-m", strconv.Itoa(clients), "-l", "170"}, tt.options...)
				uclient(t, minted(tt.server), p.turn, append(options, transport.options...)...).wantAll(t, clients*messages)
				if got := count(); got != clients*messages {
					t.Errorf("the peer got %d datagrams, want %d", got, clients*messages)
				}
				family := map[bool]string{true: "IPv6", false: "IPv4"}[strings.Contains(tt.server, ":")]
				interop.Record(t, interop.Cell{
					Kind: interop.Client, Name: "coturn's turnutils_uclient", Version: version, How: bySharedSecret,
					Transport: transport.name, Family: family, Control: refusedUclient,
				})
			})
		}
	}
	for _, transport := range transports {
		// One allocation with an address of each family (ADDITIONAL-ADDRESS-FAMILY), and a peer of the additional one.
		t.Run("dual allocation over "+transport.name, func(t *testing.T) {
			t.Parallel()
			const clients, messages = 2, 10
			port, count := echoPeerOn(t, "::1")
			options := append([]string{"-Z", "-e", "::1", "-r", strconv.Itoa(port), "-n", strconv.Itoa(messages), "-m", strconv.Itoa(clients), "-l", "170"}, transport.options...)
			uclient(t, minted("127.0.0.1"), p.turn, options...).wantAll(t, clients*messages)
			if got := count(); got != clients*messages {
				t.Errorf("the peer got %d datagrams, want %d", got, clients*messages)
			}
		})
	}
	t.Run("between two clients", func(t *testing.T) {
		t.Parallel()
		uclient(t, minted("::1"), p.turn, "-y", "-x", "-n", "10", "-m", "2").wantAllBack(t)
	})
}
