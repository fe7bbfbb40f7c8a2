package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/listen"
)

// serverConfig returns a TLS configuration with a new certificate.
func serverConfig(t *testing.T) *tls.Config {
	t.Helper()
	pair, _, err := certs.SelfSigned(t.TempDir(), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	store, err := certs.Load([]certs.Pair{pair}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return store.Config(alpn)
}

// accept returns both ends of a connection through a streamListener with the other fields of l.
func accept(t *testing.T, l streamListener) (client net.Conn, server *streamConn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	client, err = net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Listener = inner
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); conn.Close() })
	return client, conn.(*streamConn)
}

func TestOnePortCarriesPlainAndTLS(t *testing.T) {
	for _, tt := range []struct {
		name      string
		wrap      func(net.Conn) net.Conn
		encrypted bool
	}{
		{"plain", func(c net.Conn) net.Conn { return c }, false},
		{"TLS", func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) }, true},
		{"TLS with ALPN", func(c net.Conn) net.Conn {
			return tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"stun.turn"}})
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw, server := accept(t, streamListener{config: serverConfig(t), plain: true})
			client := tt.wrap(raw)
			const request = "\x00\x01 a binding request"
			go io.WriteString(client, request)
			if err := server.HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			if server.Encrypted() != tt.encrypted {
				t.Errorf("got Encrypted() = %v, want %v", server.Encrypted(), tt.encrypted)
			}
			got := make([]byte, len(request))
			if _, err := io.ReadFull(server, got); err != nil || string(got) != request {
				t.Errorf("got %q, %v, want what the client sent, including the first byte", got, err)
			}
			go io.WriteString(server, request)
			if _, err := io.ReadFull(client, got); err != nil || string(got) != request {
				t.Errorf("the client got %q, %v", got, err)
			}
		})
	}
}

// TestSilentClientEndsWithContext checks that HandshakeContext returns at the end of ctx for a client that sends nothing, or half a
// header.
func TestSilentClientEndsWithContext(t *testing.T) {
	local := listen.Networks{netip.MustParsePrefix("127.0.0.0/8")}
	for _, l := range []streamListener{
		{config: serverConfig(t), plain: true},
		{config: serverConfig(t)},
		{plain: true, proxies: local},
	} {
		refusals := 0
		l.refused = func(netip.Addr, error) { refusals++ }
		client, server := accept(t, l)
		if l.proxies != nil {
			io.WriteString(client, "PROXY TCP4 192.0.2.7 ")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- server.HandshakeContext(ctx) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%+v: got %v, want %v", l, err, context.Canceled)
		}
		if refusals != len(l.proxies) {
			t.Errorf("%+v: refused was called %d times, want 0", l, refusals)
		}
	}
}
