package shared

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/listen"
)

// A fixture is a port with endpoints, and with a fallback that answers with what it has received.
type fixture struct {
	*Port
	addr     string
	fallback *fallbackServer
}

// endpoints are the protocols and certificate names of the endpoints of a test.
type endpoints []struct {
	protocol Protocol
	names    []string
	plain    bool
}

// usual are endpoints of the three kinds that have one certificate.
var usual = endpoints{{TURN, []string{"mail.example.org"}, false}, {IMAP, []string{"mail.example.org"}, false}, {HTTP, []string{"mail.example.org"}, false}}

// newFixture starts a port. change may change its configuration, which has a fallback.
func newFixture(t *testing.T, all endpoints, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{fallback: newFallback(t)}
	c := Config{Listen: listen.Addr{Scheme: "tls", Host: "127.0.0.1"}, Fallback: f.fallback.Addr().String(), MaxConnections: 100}
	if change != nil {
		change(&c)
	}
	f.Port = New(c, slog.New(slog.DiscardHandler))
	if err := f.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.addr = f.Addr().String()
	for _, e := range all {
		store := newStore(t, e.names...)
		alpn := map[Protocol][]string{TURN: {"stun.turn"}, IMAP: {"imap"}, HTTP: {"h2", "http/1.1"}}[e.protocol]
		config := store.Config(alpn...)
		l := f.Listen(Member{
			Protocol: e.protocol, Plain: e.plain,
			Certificates: func() *certs.Store { return store }, TLS: func() *tls.Config { return config },
		})
		go listen.Serve(l, slog.New(slog.DiscardHandler), func(conn net.Conn) { go answer(conn.(*Conn), e.protocol, e.names[0], config) })
		t.Cleanup(func() { l.Close() })
	}
	f.Serve()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		f.Shutdown(ctx)
	})
	return f
}

// answer is an endpoint: it greets with its kind and its first name if it is IMAP, and otherwise after the first line.
func answer(conn *Conn, protocol Protocol, name string, config *tls.Config) {
	defer conn.Close()
	secured, how := net.Conn(conn.Secured()), "port"
	if conn.Secured() == nil {
		secured, how = tls.Server(conn, config), "endpoint"
		if first := make([]byte, 1); protocol == TURN && len(conn.ahead) > 0 && conn.ahead[0] <= maxSTUN {
			conn.Read(first)
			fmt.Fprintf(conn, "turn plain %x\n", first)
			return
		}
	}
	line := ""
	if protocol != IMAP {
		line, _ = bufio.NewReader(secured).ReadString('\n')
	}
	fmt.Fprintf(secured, "%v %s, TLS by the %s, for %v: %q\n", protocol, name, how, conn.RemoteAddr().(*net.TCPAddr).IP, line)
	if protocol == IMAP {
		io.Copy(secured, secured)
	}
	secured.Close()
}

func newStore(t *testing.T, names ...string) *certs.Store {
	t.Helper()
	pair, _, err := certs.SelfSigned(t.TempDir(), names, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	store, err := certs.Load([]certs.Pair{pair}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// fallbackServer records what each connection sends before it closes its writing side, and answers "fallback".
type fallbackServer struct {
	net.Listener
	received chan []byte
}

func newFallback(t *testing.T) *fallbackServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fallbackServer{l, make(chan []byte, 100)}
	t.Cleanup(func() { l.Close() })
	go listen.Serve(l, slog.New(slog.DiscardHandler), func(conn net.Conn) {
		go func() {
			defer conn.Close()
			io.WriteString(conn, "fallback\n")
			all, _ := io.ReadAll(conn)
			f.received <- all
		}()
	})
	return f
}

// dial connects to the port.
func (f *fixture) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn.(*net.TCPConn)
}

// ask connects with TLS, says something if it is not empty, and returns the first line of the answer, or an error.
func (f *fixture) ask(t *testing.T, config *tls.Config, say string) string {
	t.Helper()
	config.InsecureSkipVerify = true
	raw := f.dial(t)
	beginning := &prefixed{TCPConn: raw}
	conn := tls.Client(beginning, config)
	if err := conn.Handshake(); err != nil {
		if strings.HasPrefix("fallback\n", string(beginning.first)) && len(beginning.first) > 0 {
			return "fallback"
		}
		return err.Error()
	}
	if say != "" {
		io.WriteString(conn, say)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(line, "\n")
}

// prefixed keeps the first bytes that are read.
type prefixed struct {
	*net.TCPConn
	first []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	n, err := p.TCPConn.Read(b)
	if len(p.first) == 0 {
		p.first = bytes.Clone(b[:min(n, 5)])
	}
	return n, err
}

const binding = "\x00\x01\x00\x00\x21\x12\xa4\x42 twelve bytes\n"

func TestDestinations(t *testing.T) {
	separate := endpoints{{TURN, []string{"turn.example.org"}, false}, {IMAP, []string{"imap.example.org"}, false}, {IMAP, []string{"imap.example.net"}, false}}
	withFallback, alone := newFixture(t, usual, nil), newFixture(t, usual, func(c *Config) { c.Fallback = "" })
	byName, twoKinds := newFixture(t, separate, nil), newFixture(t, usual[:2], nil)
	byPort, byEndpoint := ", TLS by the port, for 127.0.0.1", ", TLS by the endpoint, for 127.0.0.1"
	for _, tt := range []struct {
		name   string
		f      *fixture
		server string
		alpn   string
		say    string
		want   string // the beginning of the answer
	}{
		{"ALPN of IMAP", withFallback, "mail.example.org", "imap", "", "imap mail.example.org" + byEndpoint},
		{"capital letters", withFallback, "MAIL.example.org", "imap", "", "imap mail.example.org" + byEndpoint},
		{"ALPN of TURN", withFallback, "mail.example.org", "stun.turn", binding, "turn mail.example.org" + byEndpoint},
		{"ALPN of HTTP", withFallback, "mail.example.org", "http/1.1", "GET / HTTP/1.1\n", "http mail.example.org" + byEndpoint},
		{"ALPN of HTTP/2", withFallback, "mail.example.org", "h2 http/1.1", "PRI *\n", "http mail.example.org" + byEndpoint},
		{"the client's preference", withFallback, "mail.example.org", "smtp imap h2", "", "imap mail.example.org" + byEndpoint},
		{"STUN speaks", withFallback, "mail.example.org", "", binding, "turn mail.example.org" + byPort + `: "\x00\x01\x00\x00!\x12\xa4B twelve bytes\n"`},
		{"HTTP speaks", withFallback, "mail.example.org", "", "GET / HTTP/1.1\n", "http mail.example.org" + byPort + `: "GET / HTTP/1.1\n"`},
		{"IMAP waits", withFallback, "mail.example.org", "", "", "imap mail.example.org" + byPort},
		{"IMAP speaks", withFallback, "mail.example.org", "", "a LOGIN\n", "imap mail.example.org" + byPort},
		{"HTTP speaks where nobody does", twoKinds, "mail.example.org", "", "GET / HTTP/1.1\n", "EOF"},
		{"another name", withFallback, "www.example.org", "imap", "", "fallback"},
		{"no name", withFallback, "", "stun.turn", binding, "fallback"},
		{"a protocol that nobody speaks", withFallback, "mail.example.org", "smtp", "", "fallback"},
		{"HTTP where nobody does", twoKinds, "mail.example.org", "h2 http/1.1", "", "fallback"},
		{"a challenge that is not ours", withFallback, "mail.example.org", "acme-tls/1", "", "fallback"},
		{"no fallback, another name", alone, "www.example.org", "imap", "", "imap mail.example.org" + byEndpoint},
		{"no fallback, no name", alone, "", "", binding, "turn mail.example.org" + byPort},
		{"no fallback, a protocol that nobody speaks", alone, "mail.example.org", "smtp", "", "remote error: tls: no application protocol"},
		{"by name, TURN", byName, "turn.example.org", "", binding, "turn turn.example.org" + byEndpoint},
		{"by name, IMAP", byName, "imap.example.org", "", "", "imap imap.example.org" + byEndpoint},
		{"by name, another IMAP", byName, "imap.example.net", "imap", "", "imap imap.example.net" + byEndpoint},
		{"by name, another protocol", byName, "turn.example.org", "imap", "", "fallback"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(tt.name+", "+tls.VersionName(version), func(t *testing.T) {
				t.Parallel()
				config := &tls.Config{ServerName: tt.server, NextProtos: strings.Fields(tt.alpn), MinVersion: version, MaxVersion: version}
				if got := tt.f.ask(t, config, tt.say); !strings.HasPrefix(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

// helloBytes returns what a client sends first.
func helloBytes(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	config.InsecureSkipVerify = true
	sent := &sink{}
	_ = tls.Client(sent, config).Handshake()
	return sent.Bytes()
}

// sink keeps what is written, and ends when it is read.
type sink struct {
	net.Conn
	bytes.Buffer
}

func (s *sink) Read([]byte) (int, error)    { return 0, io.EOF }
func (s *sink) Write(b []byte) (int, error) { return s.Buffer.Write(b) }
func (s *sink) Close() error                { return nil }

// TestFallbackGetsAll checks that the fallback gets everything as it was sent, with the client's address if wanted.
func TestFallbackGetsAll(t *testing.T) {
	hello := helloBytes(t, &tls.Config{ServerName: "www.example.org"})
	for name, sent := range map[string][]byte{
		"another name": hello, "a name and more": append(bytes.Clone(hello), strings.Repeat("x", 100_000)...),
		"plain HTTP": []byte("GET / HTTP/1.1\r\nHost: mail.example.org\r\n\r\n"), "garbage": []byte("\xff\xfe\xfd\xfc\xfb\xfa"),
		"a record that is no hello": []byte("\x16\x03\x01\x00\x05\x09\x00\x00\x01\x00"), "an SSH client": []byte("SSH-2.0-OpenSSH_9.2\r\n"),
		"a hello that is too long": append([]byte("\x16\x03\x01\x40\x00\x01\x00\xff\x00"), make([]byte, 20_000)...),
		"STUN where it needs TLS":  []byte(binding),
	} {
		for version := range byte(3) {
			t.Run(fmt.Sprintf("%s, PROXY %d", name, version), func(t *testing.T) {
				f := newFixture(t, usual, func(c *Config) { c.ProxyVersion = version })
				conn := f.dial(t)
				client := origin.Of(conn)
				client.Client, client.Server = client.Server, client.Client
				want := sent
				if version > 0 {
					header, err := client.ProxyHeader(version)
					if err != nil {
						t.Fatal(err)
					}
					want = append(header, sent...)
				}
				conn.Write(sent)
				conn.CloseWrite()
				if answer, err := io.ReadAll(conn); string(answer) != "fallback\n" || err != nil {
					t.Errorf("answer %q, %v", answer, err)
				}
				if got := <-f.fallback.received; !bytes.Equal(got, want) {
					t.Errorf("the fallback got %d bytes %.60q…, want %d bytes %.60q…", len(got), got, len(want), want)
				}
				if n := f.counters.passed.Load(); n != 1 {
					t.Errorf("%d connections counted", n)
				}
			})
		}
	}
}

// TestHelloInPieces checks a hello that arrives byte by byte, and one that is split into many records.
func TestHelloInPieces(t *testing.T) {
	f := newFixture(t, usual, nil)
	for name, size := range map[string]int{"segments": 0, "records of 1 byte": 1, "records of 50 bytes": 50} {
		t.Run(name, func(t *testing.T) {
			raw := f.dial(t)
			raw.SetNoDelay(true)
			conn := tls.Client(&piecewise{Conn: raw, record: size}, &tls.Config{ServerName: "mail.example.org", NextProtos: []string{"imap"}, InsecureSkipVerify: true})
			line, err := bufio.NewReader(conn).ReadString('\n')
			if !strings.HasPrefix(line, "imap mail.example.org") {
				t.Errorf("got %q, %v", line, err)
			}
		})
	}
}

// piecewise writes the first record byte by byte, or as several records.
type piecewise struct {
	net.Conn
	record int
	begun  bool
}

func (p *piecewise) Write(b []byte) (int, error) {
	if p.begun {
		return p.Conn.Write(b)
	}
	p.begun = true
	size, out := max(p.record, 1), b
	if p.record > 0 {
		out = split(b, p.record)
		size = len(out)
	}
	for ; len(out) > 0; out = out[min(size, len(out)):] {
		if _, err := p.Conn.Write(out[:min(size, len(out))]); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// split splits a record into records with size bytes each.
func split(record []byte, size int) (out []byte) {
	for rest := record[5:]; len(rest) > 0; rest = rest[min(size, len(rest)):] {
		part := rest[:min(size, len(rest))]
		out = append(append(out, record[0], record[1], record[2], byte(len(part)>>8), byte(len(part))), part...)
	}
	return out
}

// TestPlain checks that a TURN endpoint also gets clients without TLS if it serves them at the port.
func TestPlain(t *testing.T) {
	f := newFixture(t, endpoints{{TURN, []string{"mail.example.org"}, true}, usual[1]}, nil)
	conn := f.dial(t)
	io.WriteString(conn, binding)
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "turn plain 00\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

// TestProxied checks that the address in a PROXY header reaches the endpoints and the fallback, and that headers of others do not.
func TestProxied(t *testing.T) {
	f := newFixture(t, usual, func(c *Config) {
		c.ProxyVersion = 1
		c.Proxies = proxies(t, "127.0.0.1/32")
	})
	const header = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
	conn := f.dial(t)
	io.WriteString(conn, header)
	secured := tls.Client(conn, &tls.Config{ServerName: "mail.example.org", NextProtos: []string{"imap"}, InsecureSkipVerify: true})
	if line, err := bufio.NewReader(secured).ReadString('\n'); !strings.Contains(line, "for 192.0.2.7") {
		t.Errorf("the endpoint: %q, %v", line, err)
	}
	conn = f.dial(t)
	io.WriteString(conn, header+"GET / HTTP/1.0\r\n")
	conn.CloseWrite()
	if got := <-f.fallback.received; string(got) != header+"GET / HTTP/1.0\r\n" {
		t.Errorf("the fallback: %q", got)
	}
	conn = f.dial(t)
	io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	if b, err := io.ReadAll(conn); len(b) > 0 {
		t.Errorf("without a header: %q, %v", b, err)
	}
	if f.counters.refused[noHeader].Load() != 1 {
		t.Error("a missing header is not counted")
	}
}

func proxies(t *testing.T, text string) (all listen.Networks) {
	t.Helper()
	network, err := netip.ParsePrefix(text)
	if err != nil {
		t.Fatal(err)
	}
	return append(all, network)
}

// TestUnreachableFallback checks that its clients are closed, and counted.
func TestUnreachableFallback(t *testing.T) {
	f := newFixture(t, usual, nil)
	f.fallback.Close()
	if got := f.ask(t, &tls.Config{ServerName: "www.example.org"}, ""); got != "EOF" && !strings.Contains(got, "reset") {
		t.Errorf("got %q", got)
	}
	if f.counters.failures.Load() != 1 || f.counters.passed.Load() != 0 {
		t.Error("the failure is not counted")
	}
}

// TestPause checks that connections wait while the port is paused.
func TestPause(t *testing.T) {
	f := newFixture(t, usual, nil)
	f.Pause()
	answered := make(chan string, 1)
	go func() {
		answered <- f.ask(t, &tls.Config{ServerName: "mail.example.org", NextProtos: []string{"imap"}}, "")
	}()
	for deadline := time.Now().Add(100 * time.Millisecond); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if n := f.counters.taken[IMAP].Load(); n != 0 {
			t.Fatalf("%d connections were accepted", n)
		}
	}
	f.Resume()
	if got := <-answered; !strings.HasPrefix(got, "imap") {
		t.Errorf("after the pause: %q", got)
	}
	f.Pause()
	f.StopAccepting() // returns although it is paused
}

// TestListenerDeadline checks what turnsrv.Server.Suspend needs.
func TestListenerDeadline(t *testing.T) {
	f := newFixture(t, nil, nil)
	l := f.Listen(Member{Protocol: TURN})
	timed := l.(interface{ SetDeadline(time.Time) error })
	for range 2 {
		waiting := make(chan error, 1)
		go func() {
			_, err := l.Accept()
			waiting <- err
		}()
		timed.SetDeadline(time.Unix(1, 0))
		timed.SetDeadline(time.Unix(1, 0))
		if err := <-waiting; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		timed.SetDeadline(time.Time{})
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
