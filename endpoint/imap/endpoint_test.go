package imap

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/imapext/metadata"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// bcryptOf returns the cheapest bcrypt hash of a password.
func bcryptOf(t testing.TB, password string) []byte {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// testConfig has a TLS and a plain listener on free ports of loopback, two users, and TURN.
func testConfig(t testing.TB) Config {
	t.Helper()
	pair, _, err := certs.SelfSigned(t.TempDir(), []string{"imap.example.org"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Name:   "imap",
		Listen: []listen.Addr{{Scheme: "tls", Host: "127.0.0.1"}, {Scheme: "tcp", Host: "127.0.0.1"}},
		TLS:    []certs.Pair{pair},
		Users: map[string]credential.Secret{
			"alice": credential.NewSecret([]byte("wonderland")),
			"bob":   credential.NewSecret([]byte("builder")),
		},
		Entries: []metadata.Entry{
			{Name: "/shared/admin", Value: metadata.String("mailto:postmaster@example.org")},
			{Name: "/shared/comment", Value: metadata.String("a test")},
		},
		TURN: TURN{
			Enable: config.Value[bool]{V: true},
			Config: issuer.Config{
				Server:  config.Value[string]{V: "turn.example.org"},
				Port:    config.Value[uint16]{V: 3478},
				UDPPort: 3478, TCPPort: 3478,
				TLSPort: config.Value[uint16]{V: 5349},
				Secrets: config.Value[[]credential.Secret]{V: []credential.Secret{credential.NewSecret([]byte("test-secret"))}},
				TTL:     config.Value[time.Duration]{V: 120 * time.Hour},
			},
		},
		Access: Access{Compress: true},
		Limits: Limits{
			MaxConnections: 100, MaxUnauthenticated: 100, MaxUnauthenticatedNetwork: config.Value[int]{V: 1000},
			LoginTimeout: time.Minute, IdleTimeout: config.Value[time.Duration]{V: 31 * time.Minute},
		},
	}
}

// start runs an endpoint until the end of the test.
func start(t testing.TB, config Config) *Endpoint {
	t.Helper()
	e, err := New(config, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	startEndpoint(t, e)
	return e
}

func startEndpoint(t testing.TB, e *Endpoint) {
	t.Helper()
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what a test leaves open is cut off
		e.Shutdown(ctx)
	})
}

// testLogger discards log lines unless MAILTURN_TEST_LOG is set.
func testLogger(t testing.TB) *slog.Logger {
	if os.Getenv("MAILTURN_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// A wire is a raw IMAP connection of a test.
type wire struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func newWire(t testing.TB, conn net.Conn) *wire {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second)) // a test that hangs fails
	return &wire{t, conn, bufio.NewReader(conn)}
}

func dialTCP(t testing.TB, e *Endpoint, i int) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", e.Addrs()[i].String())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// clientTLS trusts the certificate of the endpoint.
func clientTLS(t testing.TB, e *Endpoint) *tls.Config {
	t.Helper()
	certificate, err := certs.ReadPair(e.present.config.TLS[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Leaf)
	return &tls.Config{RootCAs: roots, ServerName: "imap.example.org"}
}

// dialPlain and dialTLS connect and read the greeting.
func dialPlain(t *testing.T, e *Endpoint) *wire {
	t.Helper()
	w := newWire(t, dialTCP(t, e, 1))
	w.expect(`\* OK `)
	return w
}

func dialTLS(t *testing.T, e *Endpoint) *wire {
	t.Helper()
	w := newWire(t, tls.Client(dialTCP(t, e, 0), clientTLS(t, e)))
	w.expect(`\* OK `)
	return w
}

func (w *wire) send(format string, args ...any) {
	w.t.Helper()
	if _, err := fmt.Fprintf(w.conn, format, args...); err != nil {
		w.t.Fatalf("send: %v", err)
	}
}

// line reads one line without its line break.
func (w *wire) line() string {
	w.t.Helper()
	line, err := w.r.ReadString('\n')
	if err != nil {
		w.t.Fatalf("read a line: got %q, %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// expect reads one line and checks that it matches the pattern from its beginning.
func (w *wire) expect(pattern string) string {
	w.t.Helper()
	line := w.line()
	if !regexp.MustCompile("^(?:" + pattern + ")").MatchString(line) {
		w.t.Fatalf("got %q, want %s", line, pattern)
	}
	return line
}

// until reads lines up to the tagged response and returns them all.
func (w *wire) until(tag string) []string {
	w.t.Helper()
	var lines []string
	for {
		lines = append(lines, w.line())
		if strings.HasPrefix(lines[len(lines)-1], tag+" ") {
			return lines
		}
	}
}

// expectEnd expects the end of the connection, cleanly or by a reset.
func (w *wire) expectEnd() {
	w.t.Helper()
	if rest, err := io.ReadAll(w.r); len(rest) > 0 || err != nil && isTimeout(err) {
		w.t.Fatalf("got %q and %v, want the end of the connection", rest, err)
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

func (w *wire) login() {
	w.t.Helper()
	w.send("login LOGIN alice wonderland\r\n")
	w.expect(`login OK `)
}

// startPipes runs an endpoint without listeners in a synctest bubble; dialPipe connects to it.
func startPipes(t testing.TB, config Config) *Endpoint {
	t.Helper()
	config.Listen = nil
	return start(t, config)
}

// outside is the address of a client that is not on this machine.
var outside = netip.MustParseAddrPort("192.0.2.7:4711")

// dialPipe connects a client with the given address, on the TLS port or the plain one, and leaves the greeting to the caller. Its
// connection has no deadline: in a bubble, the runtime detects a test that hangs.
func dialPipe(t testing.TB, e *Endpoint, client netip.AddrPort, implicitTLS bool) *wire {
	t.Helper()
	clientSide, serverSide := net.Pipe()
	t.Cleanup(func() { clientSide.Close() })
	scheme := "tcp"
	if implicitTLS {
		scheme = "tls"
	}
	e.admit(addressedConn{serverSide, client}, &listener{addr: listen.Addr{Scheme: scheme}})
	return &wire{t, clientSide, bufio.NewReader(clientSide)}
}

// An addressedConn is a connection from an address of the test's choice, to 192.0.2.1:143.
type addressedConn struct {
	net.Conn
	client netip.AddrPort
}

func (c addressedConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.client) }

func (c addressedConn) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 143}
}

func newReader(conn net.Conn) *bufio.Reader { return bufio.NewReader(conn) }
