package acme

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestChallenges obtains certificates with each challenge, starting without any certificate.
func TestChallenges(t *testing.T) {
	for _, tt := range []struct {
		challenge string
		lines     func(t *testing.T, a *authority, w *world) []string
	}{
		{challenge: "http-01", lines: func(t *testing.T, a *authority, _ *world) []string {
			return []string{"agree_to_terms = true", fmt.Sprintf(`http_listen = "127.0.0.1:%d"`, a.challenge)}
		}},
		{challenge: "tls-alpn-01", lines: func(*testing.T, *authority, *world) []string {
			return []string{"agree_to_terms = true", `challenge = "tls-alpn-01"`, `key_type = "rsa"`}
		}},
		{challenge: "dns-01", lines: func(t *testing.T, a *authority, w *world) []string {
			return []string{"agree_to_terms = true", fmt.Sprintf("dns {\n server = %q\n key_name = \"mailturn\"\n key = %q\n}", w.resolver, updateKey)}
		}},
	} {
		t.Run(tt.challenge, func(t *testing.T) {
			t.Parallel()
			w := world{validity: 90 * 24 * time.Hour}
			if tt.challenge == "dns-01" {
				w.resolver = startKnot(t)
			}
			a := newAuthority(t, w)
			a.serve(t)
			var s *server
			if tt.challenge == "tls-alpn-01" {
				s = startOn(t, fmt.Sprintf("127.0.0.1:%d", a.challenge), a.block(tt.lines(t, a, &w)...))
			} else {
				s = start(t, a.block(tt.lines(t, a, &w)...))
			}
			leaf := s.awaitIssued(t, anyCertificate)
			if _, isRSA := leaf.PublicKey.(*rsa.PublicKey); isRSA != (tt.challenge == "tls-alpn-01") {
				t.Errorf("the key is %T", leaf.PublicKey)
			}
			s.checkStorage(t)
			s.checkMetrics(t, leaf)
			for _, line := range []string{"no certificate yet", `msg="certificate obtained"`} {
				if n := strings.Count(s.log.String(), line); n != 2 {
					t.Errorf("%d times %q in the log, want once for each name", n, line)
				}
			}
			if strings.Contains(s.log.String(), "level=ERROR") {
				t.Error("errors in the log")
			}
			// Somebody who pretends to be an authority gets no certificate.
			if _, err := tls.Dial("tcp", s.imap, &tls.Config{ServerName: mailName, InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}}); err == nil {
				t.Error("a handshake for an unknown challenge succeeds")
			}
		})
	}
}

// TestWildcard obtains one certificate for all subdomains, and one for the domain itself.
func TestWildcard(t *testing.T) {
	t.Parallel()
	w := world{validity: 90 * 24 * time.Hour, resolver: startKnot(t)}
	a := newAuthority(t, w)
	a.serve(t)
	s := start(t, a.block("agree_to_terms = true", `names = ["*.example.test", "example.test"]`,
		fmt.Sprintf("dns {\n server = %q\n key_name = \"mailturn\"\n key = %q\n}", w.resolver, updateKey)))
	leaf := s.awaitIssued(t, anyCertificate)
	if err := leaf.VerifyHostname("any.example.test"); err != nil {
		t.Error(err)
	}
	s.eventually(t, "a certificate for the domain itself", func() bool {
		leaf, err := presented(s.imap, "example.test")
		return err == nil && leaf.VerifyHostname("example.test") == nil
	})
	if info, err := os.Stat(filepath.Join(s.dir, "acme", "wildcard_.example.test.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", info, err)
	}
}

// checkStorage checks for one account, and for files that only their owner can read.
func (s *server) checkStorage(t *testing.T) {
	t.Helper()
	accounts, err := filepath.Glob(filepath.Join(s.dir, "acme", "acme", "*", "users", "*"))
	if err != nil || len(accounts) != 1 {
		t.Errorf("accounts %q, %v, want one", accounts, err)
	}
	for _, name := range []string{mailName, turnName} {
		info, err := os.Stat(filepath.Join(s.dir, "acme", name+".pem"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", name, info, err)
		}
	}
}

// checkMetrics checks for the expiry of the certificate in the metrics of each endpoint.
func (s *server) checkMetrics(t *testing.T, leaf *x509.Certificate) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: mailName}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("https://" + s.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"imap", "turn", "http"} {
		want := fmt.Sprintf(`mailturn_certificate_expiry_timestamp_seconds{endpoint="%[1]s",file="%[2]s",kind="%[1]s"} %[3]v`,
			kind, filepath.Join(s.dir, "acme", mailName+".pem"), float64(leaf.NotAfter.Unix()))
		if !strings.Contains(string(text), want+"\n") {
			t.Errorf("no %s in the metrics", want)
		}
	}
}

// TestAuthorityDownAtStart checks that mailturn serves without the authority, refuses handshakes until there is a certificate, and
// then presents it without a restart.
func TestAuthorityDownAtStart(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, world{validity: 90 * 24 * time.Hour})
	s := start(t, a.block("agree_to_terms = true", fmt.Sprintf(`http_listen = "127.0.0.1:%d"`, a.challenge)))
	for _, address := range []string{s.imap, s.turn, s.http} {
		if _, err := presented(address, mailName); err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("%s: a handshake without a certificate: error %v, want an internal error", address, err)
		}
	}
	s.await(t, "cannot be reached", 2)
	a.serve(t)
	s.awaitIssued(t, anyCertificate)
	if n := strings.Count(s.log.String(), `msg="certificate not obtained"`); n != 2 {
		t.Errorf("%d lines say that there is no certificate, want one for each name", n)
	}
}

// TestRenewal checks that certificates with a lifetime below a minute are replaced in time, although the authority is out of
// service when the first renewal is due.
func TestRenewal(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, world{validity: 50 * time.Second})
	a.serve(t)
	s := start(t, a.block("agree_to_terms = true", fmt.Sprintf(`http_listen = "127.0.0.1:%d"`, a.challenge)))
	first := s.awaitIssued(t, anyCertificate)
	a.stop()
	s.await(t, `level=WARN msg="certificate not obtained"`, 1)
	if leaf, err := presented(s.imap, mailName); err != nil || !leaf.Equal(first) {
		t.Errorf("while the authority is out of service: %v, want the first certificate", err)
	}
	a.serve(t)
	s.awaitIssued(t, func(leaf *x509.Certificate) bool { return leaf.NotBefore.After(first.NotBefore) })
	if strings.Contains(s.log.String(), "level=ERROR") {
		t.Error("a late renewal is logged as an error, although the certificate was valid")
	}
}

// TestRestartUsesStorage checks that a server presents a certificate obtained earlier, although the authority is out of service.
func TestRestartUsesStorage(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, world{validity: 90 * 24 * time.Hour})
	a.serve(t)
	s := start(t, a.block("agree_to_terms = true", fmt.Sprintf(`http_listen = "127.0.0.1:%d"`, a.challenge)))
	first := s.awaitIssued(t, anyCertificate)
	a.stop()
	s.stop()
	s.log = &logBuffer{}
	s.run(t)
	if leaf, err := presented(s.turn, mailName); err != nil || !leaf.Equal(first) {
		t.Errorf("after a restart: %v, want the earlier certificate", err)
	}
}

// TestReload checks that names and settings change without a restart.
func TestReload(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, world{validity: 90 * 24 * time.Hour})
	a.serve(t)
	lines := []string{"agree_to_terms = true", fmt.Sprintf(`http_listen = "127.0.0.1:%d"`, a.challenge)}
	s := start(t, a.block(lines...))
	s.awaitIssued(t, anyCertificate)

	text, err := os.ReadFile(s.file())
	if err != nil {
		t.Fatal(err)
	}
	next := strings.Replace(string(text), "agree_to_terms = true", "agree_to_terms = true\n key_type = \"rsa\"\n names = [\"other.example.test\"]", 1)
	if err := os.WriteFile(s.file(), []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.await(t, "msg=reloaded", 1)
	for _, address := range []string{s.imap, s.turn, s.http} {
		s.eventually(t, "another name at "+address, func() bool {
			leaf, err := presented(address, "other.example.test")
			if err != nil || leaf.VerifyHostname("other.example.test") != nil {
				return false
			}
			_, isRSA := leaf.PublicKey.(*rsa.PublicKey)
			return isRSA
		})
	}
}
