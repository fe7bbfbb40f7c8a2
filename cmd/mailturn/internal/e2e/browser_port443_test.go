package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// overPort443 is how the browsers of TestBrowsersPort443 get their credentials, in docs/interop.md.
const overPort443 = "IMAP METADATA, all on one port 443"

// TestBrowsersPort443 makes a call between Chromium and Firefox when the network lets nothing through but port 443. The port belongs to
// an IMAP, a TURN and an HTTP endpoint, and to a web server for other names. A name of the web server must not lead to the relay.
func TestBrowsersPort443(t *testing.T) {
	n := newCallNetwork(t)
	certs, theirs := newCertificates(t), newCertificatesFor(t, otherName)
	site := startWebServer(t, n.relay.listen(t), theirs)
	s := n.startRelay(t, configurePort443(t, certs, site.address))
	n.relay.firewall(t, `iifname { "alice", "bob" } tcp dport != 443 drop`, `iifname { "alice", "bob" } meta l4proto udp drop`)
	alice := startBrowser(t, browser.Chromium, n.alice, certs.ca)
	bob := startBrowser(t, browser.Firefox, n.bob, certs.ca)
	_, aliceTURNS := n.alice.discoverAt(t, certs, 443, "alice@example.org", "wonderland")
	_, bobTURNS := n.bob.discoverAt(t, certs, 443, "bob@example.org", "builder")

	before, _ := n.relayedPackets(t)
	relayAt := func(host string, c credential) []iceServer {
		return []iceServer{{URLs: fmt.Sprintf("turns:%s:%s?transport=tcp", host, c.port), Username: c.username, Credential: c.password}}
	}
	videoCall(t, alice, bob, relayAt(aliceTURNS.host, aliceTURNS), relayAt(bobTURNS.host, bobTURNS))
	if got := n.alice.get(t, theirs.roots, otherName); got != site.text {
		t.Errorf("the web server, during the call: got %q", got)
	}
	if got := n.bob.get(t, certs.roots, relayName); !strings.Contains(got, "ok") {
		t.Errorf("the HTTP endpoint, during the call: got %q", got)
	}
	users := []participant{alice, bob}
	for _, u := range users {
		u.do(t, nil, "received", framesWanted, audioPacketsWanted)
	}
	for _, u := range users {
		u.do(t, nil, "mute")
	}
	for _, u := range users {
		u.do(t, nil, "settled")
		r := u.report(t)
		u.do(t, nil, "close")
		r.wantRelayed(t, u.kind, "tls")
		r.wantNoLoss(t, u.kind)
		r.wantAgreement(t, s, u.kind)
		interop.Record(t, interop.Cell{
			Kind: interop.Client, Name: u.name(), Version: u.version, How: overPort443,
			Transport: "TLS", Family: "IPv4", Figures: r.figures(), Control: "name of the web server",
		})
	}
	// Each packet of a call passes through two relayed addresses.
	if all, _ := n.relayedPackets(t); all-before < 2*2*audioPacketsWanted {
		t.Errorf("the relay counted %d packets", all-before)
	}
	if names := site.names(); slices.Contains(names, relayName) {
		t.Errorf("connections to %s went to the web server", relayName)
	}

	for _, u := range users {
		seen := len(site.names())
		u.do(t, nil, "open", relayAt(otherName, aliceTURNS))
		var sdp string
		if u.do(t, &sdp, "offer"); strings.Contains(sdp, "a=candidate") {
			t.Errorf("%s got a candidate by the name of the web server:\n%s", u.kind, sdp)
		}
		if names := site.names()[seen:]; !slices.Contains(names, otherName) {
			t.Errorf("%s did not reach the web server, which was asked for %q", u.kind, names)
		}
	}
}

// configurePort443 writes a configuration in which everything has port 443.
func configurePort443(t *testing.T, certs certificates, fallback string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "maddy.conf")
	must(t, os.WriteFile(path, fmt.Appendf(nil, `
hostname = %[1]q
log {
  level = "debug"
}
%[2]s
shared_port "tls://%[3]s:443" {
  fallback = "tcp://%[4]s"
}
endpoint "turn" "turn" {
  listen        = ["udp://%[3]s:3478", "tls://%[3]s:443"]
  secret        = %[5]q
  relay_ip      = %[3]q
  drain_timeout = "1s"
}
endpoint "http" "http" {
  listen = [%[6]q, "https://%[3]s:443"]
}
endpoint "imap" "imap" {
  listen = ["tls://%[3]s:443"]
  embedded {
    users = {
      "alice@example.org" = "wonderland"
      "bob@example.org"   = "builder"
    }
  }
}
`, relayName, certs.block(), relayIPv4, fallback, secret, metricsURL), 0o600))
	return path
}

// webServer is a fallback that remembers which server names it was asked for.
type webServer struct {
	address, text string

	mu    sync.Mutex
	asked []string // guarded by mu
}

func startWebServer(t *testing.T, listener net.Listener, c certificates) *webServer {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(c.cert, c.key)
	must(t, err)
	s := &webServer{address: listener.Addr().String(), text: "the web site"}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s.text) }),
		TLSConfig: &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.asked = append(s.asked, hello.ServerName)
			return &certificate, nil
		}},
		ReadHeaderTimeout: startLimit, ErrorLog: log.New(io.Discard, "", 0), // browsers refuse its certificate
	}
	go server.ServeTLS(listener, "", "")
	t.Cleanup(func() { server.Close() })
	return s
}

// names returns the server names of all connections so far.
func (s *webServer) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// get fetches /healthz of a name from port 443 of the relay's machine.
func (ns namespace) get(t *testing.T, roots *x509.CertPool, name string) string {
	t.Helper()
	conn := tls.Client(ns.dial(t, "tcp", relayIPv4+":443"), &tls.Config{ServerName: name, RootCAs: roots, NextProtos: []string{"http/1.1"}})
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(startLimit))
	fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name)
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	return body
}
