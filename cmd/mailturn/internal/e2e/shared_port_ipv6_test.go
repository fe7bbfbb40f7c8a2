package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/probe"
)

// TestSharedPortIPv6 uses a shared port over IPv6 that is configured as documented, with 0.0.0.0: with probe, which logs in and
// allocates through it, with a mail program that waits for the greeting, and as a client of the fallback, which is told the address.
func TestSharedPortIPv6(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.nameServer(t, siteNames)
	web := n.server.listen(t)
	defer web.Close()
	headers := make(chan string)
	go func() {
		for {
			conn, err := web.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			conn.Close()
			headers <- line
		}
	}()
	certs, stateDir := newCertificatesFor(t, "six.test", "turn.test"), t.TempDir()
	config := filepath.Join(t.TempDir(), "maddy.conf")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `
hostname = "six.test"
%[1]s
shared_port "tls://0.0.0.0:443" {
  fallback       = "tcp://%[3]s"
  client_address = "proxy"
}
endpoint "turn" "turn" {
  listen        = ["udp://%[4]s:3478", "tcp://%[4]s:3478", "udp://[%[2]s]:3478", "tcp://[%[2]s]:3478", "tls://0.0.0.0:443"]
  secret        = %[5]q
  relay_ip      = [%[4]q, %[2]q]
  drain_timeout = "0s"
  peers {
    allow = ["198.51.100.0/24", "2001:db8::/64"]
  }
}
endpoint "http" "http" {
  listen = "https://0.0.0.0:443"
}
endpoint "imap" "imap" {
  listen      = ["tls://0.0.0.0:443"]
  turn_server = "turn.test"
  embedded {
    users = {
      "alice@example.org" = "wonderland"
    }
  }
}
`, certs.block(), serverIPv6, web.Addr(), serverIPv4, secret), 0o600))
	startCommand(t, n.server.command(binary, "run", "--state-dir", stateDir, "--config", config))

	t.Run("probe", func(t *testing.T) {
		r := runProbe(t, n.client, "wonderland", "--dns", serverIPv4, "--ca", certs.ca, "imaps://alice%40example.org@six.test:443")
		wantVerdict(t, r, "", probe.OK, "A call would connect.")
		shared := fmt.Sprintf("[%s]:443", serverIPv6)
		for _, relay := range r.Relays {
			if relay.Address == shared && relay.RelayToRelay != nil && relay.RelayToRelay.Received >= 15 {
				return
			}
		}
		t.Errorf("nothing was relayed for a client of %s: %+v", shared, r.Relays)
	})
	for name, alpn := range map[string][]string{"ALPN": {"imap"}, "no ALPN": nil} {
		t.Run("IMAP, "+name, func(t *testing.T) {
			conn := tls.Client(n.client.dial(t, "tcp", fmt.Sprintf("[%s]:443", serverIPv6)), &tls.Config{ServerName: "six.test", RootCAs: certs.roots, NextProtos: alpn})
			client := imapclient.New(conn, nil)
			defer client.Close()
			must(t, client.WaitGreeting())
			must(t, client.Login("alice@example.org", "wonderland").Wait())
		})
	}
	for client, server := range map[string]string{clientIPv6: serverIPv6, clientIPv4: serverIPv4} {
		t.Run("fallback, "+client, func(t *testing.T) {
			conn := n.client.dial(t, "tcp", net.JoinHostPort(server, "443"))
			defer conn.Close()
			fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
			family := map[bool]string{true: "TCP6", false: "TCP4"}[strings.Contains(client, ":")]
			select {
			case line := <-headers:
				if want := fmt.Sprintf("PROXY %s %s %s ", family, client, server); !strings.HasPrefix(line, want) {
					t.Errorf("the fallback was told %q, want %q…", line, want)
				}
			case <-time.After(stopLimit):
				t.Error("nothing reached the fallback")
			}
		})
	}
}
