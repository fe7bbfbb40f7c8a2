package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

// startDovecot runs a Dovecot until the test ends.
func startDovecot(t *testing.T, options dovecot.Options) *dovecot.Server {
	t.Helper()
	if options.Root == nil {
		peer(t, "dovecot", "dovecot-imapd")
	}
	s, err := dovecot.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("Dovecot's log:\n%s", s.Log())
		}
	})
	return s
}

// waitForLog waits until Dovecot, which writes its log when it has answered, has written the text.
func waitForLog(t *testing.T, d *dovecot.Server, text string) {
	t.Helper()
	for deadline := time.Now().Add(startLimit); !strings.Contains(d.Log(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Dovecot's log has no %q:\n%s", text, d.Log())
		}
	}
}

// proxy is a mailturn in front of an IMAP server.
type proxy struct {
	*server
	ports
	caFile string
	tls    *tls.Config
}

// comment is the value of /shared/comment that mailturn has been given.
const comment = "in front of Dovecot"

// startProxy runs mailturn in front of the IMAP server at address. Clients are told a TURN server that does not exist.
func startProxy(t *testing.T, address string) *proxy { return startProxyWith(t, address, "none") }

// startProxyWith is startProxy with a value of client_address.
func startProxyWith(t *testing.T, address, clientAddress string) *proxy {
	t.Helper()
	p := freePorts(t)
	stateDir, path := t.TempDir(), filepath.Join(t.TempDir(), "maddy.conf")
	text := fmt.Sprintf(`
hostname = "localhost"
log {
  level = "debug"
}
endpoint "imap" "imap" {
  listen      = ["tls://127.0.0.1:%d", "tcp://127.0.0.1:%d"]
  turn_server = "turn.example.org"
  turn_secret = %q
  entries = {
    "/shared/comment" = %q
  }
  upstream {
    address        = "tcp://%s"
    client_address = %q
  }
}
`, p.imaps, p.imap, secret, comment, address, clientAddress)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, stateDir, "--config", path)
	caFile := filepath.Join(stateDir, "selfsigned.crt")
	certificate, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certificate) {
		t.Fatalf("no certificate in %s", caFile)
	}
	return &proxy{s, p, caFile, &tls.Config{RootCAs: roots, ServerName: "localhost"}}
}

func (p *proxy) addr() string    { return fmt.Sprintf("127.0.0.1:%d", p.imap) }
func (p *proxy) tlsAddr() string { return fmt.Sprintf("127.0.0.1:%d", p.imaps) }

// A dialer opens one connection of a client.
type dialer func() (net.Conn, error)

const dialTimeout = 10 * time.Second

func dialPlain(addr string) dialer {
	return func() (net.Conn, error) { return net.DialTimeout("tcp", addr, dialTimeout) }
}

func (p *proxy) dialTLS() (net.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: dialTimeout}, "tcp", p.tlsAddr(), p.tls)
}
