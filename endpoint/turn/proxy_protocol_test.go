package turn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/turn/v4"

	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/module/moduletest"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// proxyHeader is a version 1 header of a client at TEST-NET-1.
func proxyHeader(client string) string {
	return "PROXY TCP4 " + client + " 198.51.100.1 4711 3478\r\n"
}

// proxyHeader2 is a version 2 header of 192.0.2.7:4711.
const proxyHeader2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + "\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x0d\x96"

// streamClient connects to the endpoint's only socket from an address of loopback, sends header, and then speaks TURN over TLS or
// TCP.
func streamClient(t *testing.T, e *Endpoint, from, header string, encrypted bool) *turn.Client {
	t.Helper()
	conn := streamTo(t, e, from)
	if _, err := io.WriteString(conn, header); err != nil {
		t.Fatal(err)
	}
	if encrypted {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	issued := credential.Issuer{Secret: e.config.Secrets[0], TTL: time.Hour}.Issue(time.Now())
	addr := e.sockets[0].Streams.Addr().String()
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: addr, TURNServerAddr: addr, Conn: turn.NewSTUNConn(conn),
		Username: issued.Username, Password: issued.Password, RTO: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	return client
}

func streamTo(t *testing.T, e *Endpoint, from string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(t.Context(), "tcp4", e.sockets[0].Streams.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// behindProxy returns an endpoint with a proxy at 127.0.0.5 that listens on one port with the schemes.
func behindProxy(t *testing.T, schemes ...string) *Endpoint {
	t.Helper()
	var listens []listen.Addr
	for _, scheme := range schemes {
		listens = append(listens, listen.Addr{Scheme: scheme, Host: "127.0.0.1"})
	}
	c := encryptedOn(t, listens...)
	c.ProxyProtocol = listen.Networks{netip.MustParsePrefix("127.0.0.5/32")}
	c.SourceQuota = 1
	return moduletest.Start(t, New, c)
}

// TestProxyProtocol checks that the address in the header of a trusted proxy counts as the client's, with and without TLS, even if
// one port carries both.
func TestProxyProtocol(t *testing.T) {
	for _, tt := range []struct {
		name      string
		schemes   []string
		encrypted bool
	}{
		{"TCP", []string{"tcp"}, false},
		{"TLS", []string{"tls"}, true},
		{"TCP on the port of TLS", []string{"tcp", "tls"}, false},
		{"TLS on the port of TCP", []string{"tcp", "tls"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := behindProxy(t, tt.schemes...)
			for _, header := range []string{proxyHeader("192.0.2.7"), proxyHeader2} {
				mapped, err := streamClient(t, e, "127.0.0.5", header, tt.encrypted).SendBindingRequest()
				if err != nil || mapped.String() != "192.0.2.7:4711" {
					t.Errorf("%q: XOR-MAPPED-ADDRESS %v, %v", header, mapped, err)
				}
			}
			// After a header without addresses, as on a proxy's own connection, the client's address is the proxy's.
			mapped, err := streamClient(t, e, "127.0.0.5", "PROXY UNKNOWN\r\n", tt.encrypted).SendBindingRequest()
			if err != nil || !strings.HasPrefix(mapped.String(), "127.0.0.5:") {
				t.Errorf("without addresses: XOR-MAPPED-ADDRESS %v, %v", mapped, err)
			}
			// Clients that do not use the proxy send no header.
			mapped, err = streamClient(t, e, "127.0.0.6", "", tt.encrypted).SendBindingRequest()
			if err != nil || !strings.HasPrefix(mapped.String(), "127.0.0.6:") {
				t.Errorf("without a proxy: XOR-MAPPED-ADDRESS %v, %v", mapped, err)
			}
		})
	}
}

// TestLimitsCountTheClientBehindAProxy checks that source_quota counts the addresses in headers, not the proxy's.
func TestLimitsCountTheClientBehindAProxy(t *testing.T) {
	e := behindProxy(t, "tcp")
	for _, tt := range []struct {
		client string
		ok     bool
	}{{"192.0.2.7", true}, {"192.0.2.7", false}, {"192.0.2.8", true}, {"192.0.2.8", false}} {
		conn, err := streamClient(t, e, "127.0.0.5", proxyHeader(tt.client), false).Allocate()
		if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), "486") {
			t.Errorf("allocation of %s: %v, want it to succeed: %v", tt.client, err, tt.ok)
		}
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
	}
}

// TestProxyProtocolTrust checks that a header is accepted only from the proxy, and required there.
func TestProxyProtocolTrust(t *testing.T) {
	for _, tt := range []struct{ name, from, says string }{
		{"version 1 of a stranger", "127.0.0.6", proxyHeader("192.0.2.7")},
		{"version 2 of a stranger", "127.0.0.6", proxyHeader2},
		{"no header of the proxy", "127.0.0.5", "\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"},
		{"a second header", "127.0.0.5", proxyHeader("192.0.2.7") + proxyHeader("192.0.2.8")},
		{"a header that is too long", "127.0.0.5", "PROXY TCP4 " + strings.Repeat("1", 200)},
		{"a version 2 header that is too long", "127.0.0.5", proxyHeader2[:14] + "\xff\xff"},
	} {
		for _, schemes := range [][]string{{"tcp"}, {"tcp", "tls"}} {
			t.Run(tt.name+" over "+strings.Join(schemes, " and "), func(t *testing.T) {
				conn := streamTo(t, behindProxy(t, schemes...), tt.from)
				if _, err := io.WriteString(conn, tt.says); err != nil {
					t.Fatal(err)
				}
				conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				// A reset is an end too: the server did not read everything.
				n, err := conn.Read(make([]byte, 100))
				if timeout, ok := errors.AsType[net.Error](err); n > 0 || err == nil || ok && timeout.Timeout() {
					t.Errorf("got %d bytes, %v, want the connection closed", n, err)
				}
			})
		}
	}
}
