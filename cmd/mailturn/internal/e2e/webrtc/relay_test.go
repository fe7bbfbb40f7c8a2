package webrtc_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/imapext/discovery"
	"github.com/pion/webrtc/v4"
)

// Files in the directory that TestMain makes.
var mailturn, certificate, key string

// addresses are those that the certificate is for. The relay also listens on otherAddress.
var addresses = map[string]netip.Addr{"IPv4": netip.MustParseAddr("127.0.0.1"), "IPv6": netip.IPv6Loopback()}

const otherAddress = "127.0.0.2"

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mailturn-webrtc")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	mailturn = filepath.Join(dir, "mailturn")
	pair, _, err := certs.SelfSigned(dir, nil, time.Now()) // for addresses, and not for otherAddress
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	certificate, key = pair.Cert, pair.Key
	// pion/ice has no setting for the roots of TURN over TLS and DTLS. It uses the system's, which are read once.
	os.Setenv("SSL_CERT_FILE", certificate)
	build := exec.Command("go", "build", "-o", mailturn, ".")
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build mailturn: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// users are those of the relay's IMAP endpoint, with their passwords.
var users = [2][2]string{{"alice@example.org", "wonderland"}, {"bob@example.org", "builder"}}

// relay is a running mailturn.
type relay struct {
	*daemon.Daemon
	imap int // port of implicit TLS
}

// startRelay runs mailturn on all addresses of loopback until the test ends.
func startRelay(t *testing.T) relay {
	t.Helper()
	if conn, err := net.ListenPacket("udp6", "[::1]:0"); err == nil {
		conn.Close()
	} else if os.Getenv("MAILTURN_E2E") != "" {
		t.Fatalf("IPv6 is not available: %v", err)
	} else {
		t.Skipf("IPv6 is not available: %v", err)
	}
	var ports [3]int
	for i := range ports {
		var err error
		if ports[i], err = daemon.FreePort("127.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(t.TempDir(), "maddy.conf")
	text := fmt.Sprintf(`
log {
  level = "debug"
}
tls {
  cert = %q
  key  = %q
}
endpoint "turn" "turn" {
  listen = [
    "udp://0.0.0.0:%[3]d", "tcp://0.0.0.0:%[3]d", "tls://0.0.0.0:%[4]d", "dtls://0.0.0.0:%[4]d",
    "udp://[::]:%[3]d", "tcp://[::]:%[3]d", "tls://[::]:%[4]d", "dtls://[::]:%[4]d",
  ]
  realm         = "example.org"
  secret        = "a secret of 32 bytes for the tests"
  relay_ip      = ["127.0.0.1", "::1"]
  drain_timeout = "1s"
  peers {
    allow = ["127.0.0.0/8", "::1/128"]
  }
}
endpoint "imap" "imap" {
  listen      = ["tls://127.0.0.1:%[5]d"]
  turn_server = "turn.example.org"
  embedded {
    users = {
      %[6]q = %[7]q
      %[8]q = %[9]q
    }
  }
}
`, certificate, key, ports[0], ports[1], ports[2], users[0][0], users[0][1], users[1][0], users[1][1])
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := daemon.Start(t.Context(), exec.Command(mailturn, "run", "--state-dir", t.TempDir(), "--config", config), "msg=ready")
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
	return relay{d, ports[2]}
}

// names stands for the DNS.
type names struct{}

func (names) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{addresses["IPv4"], addresses["IPv6"]}, nil
}

// discover asks over IMAP for the relay, as Delta Chat core does, and returns it with a single URL, for the transport and the
// family.
func (r relay) discover(t *testing.T, user [2]string, transport, family string) webrtc.ICEServer {
	t.Helper()
	entry := map[string]string{"UDP": discovery.TURNEntry, "TCP": discovery.TURNEntry, "TLS": discovery.TURNSEntry, "DTLS": discovery.TURNSEntry}[transport]
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.imap), nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := discovery.NewClient(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.LogIn(t.Context(), discovery.Credentials{Username: user[0], Password: user[1]}); err != nil {
		t.Fatal(err)
	}
	entries, err := client.GetMetadata(t.Context(), []string{entry})
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Fatalf("%d entries in the answer, want %s alone", len(entries), entry)
	}
	value, err := discovery.ParseValue(entries[0].Value.Octets())
	if err != nil {
		t.Fatal(err)
	}
	resolved, failed := discovery.Resolve(t.Context(), names{}, []discovery.Server{value.Server()})
	if len(failed) != 0 {
		t.Fatal(failed)
	}
	for _, url := range resolved[0].URLs {
		rest, _ := strings.CutPrefix(url, "turn:")
		if addr := netip.MustParseAddrPort(rest); addr.Addr() == addresses[family] {
			scheme := map[bool]string{false: "turn:", true: "turns:"}[entry == discovery.TURNSEntry]
			protocol := map[string]string{"UDP": "udp", "TCP": "tcp", "TLS": "tcp", "DTLS": "udp"}[transport]
			return webrtc.ICEServer{
				URLs:     []string{scheme + rest + "?transport=" + protocol},
				Username: resolved[0].Username, Credential: resolved[0].Credential,
			}
		}
	}
	t.Fatalf("no URL of %s in %q", family, resolved[0].URLs)
	return webrtc.ICEServer{}
}

// ended waits for the end of the allocation with a relayed address, and returns what the log says of it: the client's
// address and transport, and how many packets were relayed.
func (r relay) ended(t *testing.T, relayed string) (client netip.AddrPort, transport string, toPeer, toClient int) {
	t.Helper()
	line := regexp.MustCompile(`msg="allocation ended" .* allocation\.client=(\S+) allocation\.transport=(\S+) .* allocation\.relay=` + regexp.QuoteMeta(relayed) +
		` .* allocation\.to_peer_packets=(\d+) .* allocation\.to_client_packets=(\d+)`)
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if m := line.FindStringSubmatch(r.Log()); m != nil {
			toPeer, _ = strconv.Atoi(m[3])
			toClient, _ = strconv.Atoi(m[4])
			return netip.MustParseAddrPort(m[1]), m[2], toPeer, toClient
		}
		if time.Now().After(deadline) {
			t.Fatalf("mailturn does not say that the allocation of %s has ended", relayed)
		}
	}
}
