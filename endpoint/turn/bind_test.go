package turn

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/module/moduletest"
)

// encryptedOn returns a configuration on loopback with a certificate.
func encryptedOn(t *testing.T, listens ...listen.Addr) Config {
	t.Helper()
	pair, _, err := certs.SelfSigned(t.TempDir(), []string{"turn.example.org"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := loopback(listens...)
	c.TLS = []certs.Pair{pair}
	return c
}

func TestSharedSockets(t *testing.T) {
	for _, tt := range []struct{ schemes, want string }{
		{"udp", "udp"},
		{"dtls", "dtls"},
		{"udp dtls", "udp+dtls"},
		{"dtls udp", "udp+dtls"},
		{"tls", "tls"},
		{"tcp", "tcp"},
		{"tcp udp tls dtls", "tcp+tls udp+dtls"},
	} {
		var listens []listen.Addr
		for scheme := range strings.FieldsSeq(tt.schemes) {
			listens = append(listens, listen.Addr{Scheme: scheme, Host: "127.0.0.1"})
		}
		e := moduletest.Start(t, New, encryptedOn(t, listens...))
		var got []string
		for _, s := range e.sockets {
			network, encrypted := "udp", "dtls"
			if s.Streams != nil {
				network, encrypted = "tcp", "tls"
			}
			switch {
			case s.plain && s.encrypted:
				got = append(got, network+"+"+encrypted)
			case s.encrypted:
				got = append(got, encrypted)
			default:
				got = append(got, network)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: sockets for %q, want %s", tt.schemes, got, tt.want)
		}
	}
}

// TestSocketOfBothFamilies checks that one socket serves the unspecified addresses of both families.
func TestSocketOfBothFamilies(t *testing.T) {
	e := moduletest.Start(t, New, loopback(listen.Addr{Scheme: "udp", Host: "0.0.0.0"}, listen.Addr{Scheme: "udp", Host: "::"}))
	if len(e.sockets) != 1 {
		t.Fatalf("got %d sockets, want 1", len(e.sockets))
	}
	_, port, err := net.SplitHostPort(e.sockets[0].Packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := net.Dial("udp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := conn.Write([]byte("\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl")); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 1500)
		if n, err := conn.Read(answer); err != nil || n < 20 || answer[0] != 1 || answer[1] != 1 {
			t.Errorf("%s: the answer to a Binding request is %x, %v, want a success response", host, answer[:n], err)
		}
	}
}

// TestCertificateOverDTLS checks that DTLS presents the certificate of the store, on the port of UDP.
func TestCertificateOverDTLS(t *testing.T) {
	e := moduletest.Start(t, New, encryptedOn(t, listen.Addr{Scheme: "udp", Host: "127.0.0.1"}, listen.Addr{Scheme: "dtls", Host: "127.0.0.1"}))
	client, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := dtls.ClientWithOptions(client, e.sockets[0].Packets.LocalAddr(),
		dtls.WithServerName("turn.example.org"), dtls.WithInsecureSkipVerify(true), dtls.WithSupportedProtocols(alpn))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	state, ok := conn.ConnectionState()
	want, err := certs.ReadPair(e.config.TLS[0])
	if err != nil {
		t.Fatal(err)
	}
	if !ok || len(state.PeerCertificates) == 0 || string(state.PeerCertificates[0]) != string(want.Leaf.Raw) {
		t.Error("the certificate is another one")
	}
	if state.NegotiatedProtocol != alpn {
		t.Errorf("the protocol is %q, want %q", state.NegotiatedProtocol, alpn)
	}
}

// TestReloadReplacesTheCertificate checks that after a reload with other files, their certificate is presented without a restart.
func TestReloadReplacesTheCertificate(t *testing.T) {
	c := encryptedOn(t, listen.Addr{Scheme: "tls", Host: "127.0.0.1"})
	e := moduletest.Start(t, New, c)
	next := encryptedOn(t, c.Listen...)
	if names := config.NeedsRestart(Schema{}, c, next); len(names) > 0 {
		t.Errorf("other certificates require a restart: %q", names)
	}
	c.TLS = next.TLS
	moduletest.Reload(t, e, c)
	conn, err := tls.Dial("tcp", e.sockets[0].Streams.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want, err := certs.ReadPair(next.TLS[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(want.Leaf) {
		t.Errorf("presented the certificate %v, want %v", got.SerialNumber, want.Leaf.SerialNumber)
	}
	if ends := e.CertificateEnds(); len(ends) != 1 || ends[next.TLS[0].Cert] != want.Leaf.NotAfter {
		t.Errorf("certificates end at %v, want that of the new file alone", ends)
	}
}

// TestNeedsCertificate checks that an endpoint that listens only with DTLS requires a certificate.
func TestNeedsCertificate(t *testing.T) {
	for scheme, want := range map[string]bool{"udp": false, "tcp": false, "tls": true, "dtls": true} {
		c := loopback(listen.Addr{Scheme: scheme, Host: "127.0.0.1"})
		if got := c.NeedsCertificate(); got != want {
			t.Errorf("%s: got %v, want %v", scheme, got, want)
		}
	}
}
