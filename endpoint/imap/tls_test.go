package imap

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

// tlsHandshake does a handshake on the TLS port and reads the greeting.
func tlsHandshake(t *testing.T, e *Endpoint, config *tls.Config) error {
	t.Helper()
	conn := tls.Client(dialTCP(t, e, 0), config)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, err := io.ReadFull(conn, make([]byte, len("* OK ")))
	return err
}

// TestTLSVersionsAndALPN checks that TLS 1.2 and newer are accepted, with ALPN imap or without ALPN, and not with other ALPN (RFC
// 7301 section 3.2).
func TestTLSVersionsAndALPN(t *testing.T) {
	e := start(t, testConfig(t))
	for _, tt := range []struct {
		name   string
		change func(*tls.Config)
		ok     bool
	}{
		{"TLS 1.3", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, true},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false},
		{"ALPN imap", func(c *tls.Config) { c.NextProtos = []string{"imap"} }, true},
		{"ALPN imap among others", func(c *tls.Config) { c.NextProtos = []string{"h2", "imap"} }, true},
		{"other ALPN", func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, false},
	} {
		config := clientTLS(t, e)
		tt.change(config)
		if err := tlsHandshake(t, e, config); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want success: %v", tt.name, err, tt.ok)
		}
	}
}

// TestTLSTickets checks that a client that reconnects resumes its TLS session (RFC 8446 section 2.2, RFC 5077).
func TestTLSTickets(t *testing.T) {
	e := start(t, testConfig(t))
	for name, version := range map[string]uint16{"TLS 1.3": tls.VersionTLS13, "TLS 1.2": tls.VersionTLS12} {
		var resumed bool
		config := clientTLS(t, e)
		config.MaxVersion = version
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		config.VerifyConnection = func(state tls.ConnectionState) error {
			resumed = state.DidResume
			return nil
		}
		for i, want := range []bool{false, true} {
			if err := tlsHandshake(t, e, config); err != nil {
				t.Fatal(err)
			}
			if resumed != want {
				t.Errorf("%s, connection %d: resumed %v, want %v", name, i+1, resumed, want)
			}
		}
	}
}

// TestTLSServerNames checks that the client's server name selects the certificate of several tls blocks, over STARTTLS too.
func TestTLSServerNames(t *testing.T) {
	config := testConfig(t)
	roots := x509.NewCertPool()
	config.TLS = nil
	for _, name := range []string{"a.example.org", "b.example.org"} {
		pair, _, err := certs.SelfSigned(t.TempDir(), []string{name}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := certs.ReadPair(pair)
		if err != nil {
			t.Fatal(err)
		}
		roots.AddCert(certificate.Leaf)
		config.TLS = append(config.TLS, pair)
	}
	e := start(t, config)
	for name, ok := range map[string]bool{"a.example.org": true, "b.example.org": true, "c.example.org": false} {
		clientConfig := &tls.Config{RootCAs: roots, ServerName: name}
		if err := tlsHandshake(t, e, clientConfig); (err == nil) != ok {
			t.Errorf("%s: got %v, want success: %v", name, err, ok)
		}
		w := dialPlain(t, e)
		w.send("a STARTTLS\r\n")
		w.expect(`a OK`)
		if err := tls.Client(w.conn, clientConfig).Handshake(); (err == nil) != ok {
			t.Errorf("%s over STARTTLS: got %v, want success: %v", name, err, ok)
		}
	}
}
