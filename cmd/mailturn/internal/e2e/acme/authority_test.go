package acme

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
	"github.com/mailturn/mailturn/framework/certs"
)

// An authority is a Pebble that can be taken out of service.
type authority struct {
	address   string // of its directory
	roots     string // file with the certificates to verify its server
	pair      certs.Pair
	handler   http.Handler
	server    *http.Server
	challenge int // the port to which it connects for challenges
}

// world describes an authority and its environment.
type world struct {
	validity    time.Duration
	resolver    string // HOST:PORT; if empty, one that returns 127.0.0.1 for every name
	needAccount bool   // an external account
	made        time.Time
	problem     string // the type of problem with which it refuses every order
}

// newAuthority returns an authority that is out of service.
func newAuthority(t *testing.T, w world) *authority {
	t.Helper()
	a := &authority{address: freeAddr(t), challenge: freePort(t)}
	if w.made.IsZero() {
		w.made = time.Now()
	}
	pair, _, err := certs.SelfSigned(t.TempDir(), nil, w.made)
	if err != nil {
		t.Fatal(err)
	}
	a.pair, a.roots = pair, pair.Cert
	if w.resolver == "" {
		w.resolver = freeAddr(t)
		resolver, err := challtestsrv.New(challtestsrv.Config{DNSAddrs: []string{w.resolver}, Log: log.New(io.Discard, "", 0)})
		if err != nil {
			t.Fatal(err)
		}
		resolver.SetDefaultDNSIPv6("")
		go resolver.Run()
		t.Cleanup(resolver.Shutdown)
	}
	logger := log.New(testWriter{t}, "pebble: ", 0)
	store := db.NewMemoryStore()
	if w.needAccount {
		if err := store.AddExternalAccountKeyByID("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"); err != nil {
			t.Fatal(err)
		}
	}
	profiles := map[string]ca.Profile{"default": {ValidityPeriod: uint64(w.validity / time.Second)}}
	issuer := ca.New(logger, store, "", "ecdsa", 0, 1, profiles)
	validator := va.New(logger, a.challenge, a.challenge, false, w.resolver, store)
	front := wfe.New(logger, store, validator, issuer, []string{"pebble.test"}, false, w.needAccount, 1, 1)
	a.handler = front.Handler()
	if w.problem != "" {
		a.handler = refusing(a.handler, w.problem)
	}
	return a
}

// refusing answers each new order with a problem (RFC 8555 section 6.7).
func refusing(handler http.Handler, problem string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/order-plz" {
			handler.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"type": "urn:ietf:params:acme:error:%s", "detail": "Pebble would rather not"}`, problem)
	})
}

// serve puts the authority into service until stop is called or the test ends.
func (a *authority) serve(t *testing.T) {
	t.Helper()
	certificate, err := certs.ReadPair(a.pair)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", a.address)
	if err != nil {
		t.Fatal(err)
	}
	a.server = &http.Server{Handler: a.handler, ErrorLog: log.New(io.Discard, "", 0)}
	server := a.server
	go server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{*certificate}}))
	t.Cleanup(func() { server.Close() })
}

// stop takes the authority out of service.
func (a *authority) stop() { a.server.Close() }

// block returns the acme block for the authority, with further lines.
func (a *authority) block(lines ...string) string {
	return fmt.Sprintf("acme {\n email = \"postmaster@example.org\"\n directory = \"https://%s%s\"\n ca_file = %q\n %s\n}\n",
		a.address, wfe.DirectoryPath, filepath.ToSlash(a.roots), strings.Join(lines, "\n "))
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := daemon.FreePort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func freeAddr(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", freePort(t)) }

// testWriter writes to the log of a test until the test has ended.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}
