package imap

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/upstream"
)

// TestClientAddress checks that the server learns the client's address before TLS and before anything else.
func TestClientAddress(t *testing.T) {
	certificate, pair := testCertificate(t)
	encrypt := func(w *wire) *wire {
		conn := tls.Server(bufferedConn{w.conn, w}, &tls.Config{Certificates: []tls.Certificate{certificate}})
		return &wire{w.t, conn, newReader(conn)}
	}
	for _, how := range []upstream.ClientAddress{upstream.ClientAddressProxy, upstream.ClientAddressProxy2} {
		for _, scheme := range []string{"tcp", "tls", "starttls"} {
			t.Run(scheme+" "+string(how), func(t *testing.T) {
				listener := listenTCP(t)
				server := upstreamAt(scheme, listener)
				server.CAFile, server.ServerName, server.ClientAddress = pair.Cert, "imap.example.org", how
				seen := make(chan origin.Origin, 1)
				e := startUpstream(t, listener, *server, func(w *wire) {
					o, err := origin.Origin{}.ReadProxyHeader(w.r)
					if err != nil {
						t.Error(err)
					}
					seen <- o
					if scheme == "tls" {
						w = encrypt(w)
					}
					if scheme == "starttls" {
						fmt.Fprint(w.conn, "* OK [CAPABILITY IMAP4rev1] upstream\r\n")
						w.readLine()
						fmt.Fprint(w.conn, "mailturn OK begin\r\n")
						encrypt(w).readLine()
						return
					}
					fmt.Fprint(w.conn, "* OK [CAPABILITY IMAP4rev1] upstream\r\n")
					w.readLine()
				})
				conn := dialTCP(t, e, 1)
				w := newWire(t, conn)
				w.expect(`\* OK .*upstream`)
				want := origin.Origin{
					Client:  netip.MustParseAddrPort(conn.LocalAddr().String()),
					Server:  netip.MustParseAddrPort(conn.RemoteAddr().String()),
					Proxied: true,
				}
				if got := <-seen; got != want {
					t.Errorf("server was told %+v, want %+v", got, want)
				}
			})
		}
	}
}

// TestClientAddressID checks that a server with ID learns the client's address before the client has sent anything.
func TestClientAddressID(t *testing.T) {
	for _, tt := range []struct {
		name     string
		greeting string
		answers  []string // to each line; the last is to the client's
		log      string
	}{
		{"announced", "* OK [CAPABILITY IMAP4rev1 ID] upstream\r\n", []string{"* ID (\"name\" \"x\")\r\nmailturn OK done\r\n", "a OK done\r\n"}, ""},
		{"asked for", "* OK upstream\r\n", []string{"* CAPABILITY IMAP4rev1 ID\r\nmailturn OK done\r\n", "mailturn OK done\r\n", "a OK done\r\n"}, ""},
		{"preauthenticated", "* PREAUTH [CAPABILITY ID] upstream\r\n", []string{"mailturn NO\r\n", "a OK done\r\n"}, ""},
		{"not announced", "* OK [CAPABILITY IMAP4rev1] upstream\r\n", []string{"a OK done\r\n"}, "backend does not announce ID"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			listener := listenTCP(t)
			server := upstreamAt("tcp", listener)
			server.ClientAddress = upstream.ClientAddressID
			lines := make(chan string, 10)
			config := testConfig(t)
			config.Upstream = server
			serveScript(t, listener, func(w *wire) {
				fmt.Fprint(w.conn, tt.greeting)
				for _, answer := range tt.answers {
					lines <- w.readLine()
					fmt.Fprint(w.conn, answer)
				}
				w.readLine()
			})
			var log lockedBuffer
			e, err := New(config, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			startEndpoint(t, e)
			conn := dialTCP(t, e, 1)
			w := newWire(t, conn)
			w.expect(`\* .*upstream`)
			for range len(tt.answers) - 2 {
				if got := <-lines; got != "mailturn CAPABILITY\r\n" {
					t.Errorf("server got %q, want CAPABILITY", got)
				}
			}
			if tt.log == "" {
				client, server := netip.MustParseAddrPort(conn.LocalAddr().String()), netip.MustParseAddrPort(conn.RemoteAddr().String())
				want := fmt.Sprintf(`^mailturn ID \("x-originating-ip" "%v" "x-originating-port" "%d" "x-connected-ip" "%v" "x-connected-port" "%d"`+
					` "x-session-id" "[A-Z2-7]{26}" "x-proxy-ttl" "4"\)`+"\r\n$", client.Addr(), client.Port(), server.Addr(), server.Port())
				if got := <-lines; !regexp.MustCompile(want).MatchString(got) {
					t.Errorf("server got %q, want %s", got, want)
				}
			}
			w.send("a ID (\"name\" \"client\" \"x-originating-ip\" \"127.0.0.1\")\r\n")
			w.expect("a OK done")
			if got := <-lines; got != "a ID (\"name\" \"client\")\r\n" {
				t.Errorf("server got %q from the client", got)
			}
			if got := log.String(); (tt.log == "") == strings.Contains(got, "level=WARN") || !strings.Contains(got, tt.log) {
				t.Errorf("log is %q, want %q", got, tt.log)
			}
		})
	}
}

// A lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A bufferedConn first reads what a wire has read ahead.
type bufferedConn struct {
	net.Conn
	w *wire
}

func (c bufferedConn) Read(p []byte) (int, error) { return c.w.r.Read(p) }

// v2 returns the header of the PROXY protocol, version 2, for an origin.
func v2(t *testing.T, o origin.Origin) string {
	t.Helper()
	header, err := o.ProxyHeader(2)
	if err != nil {
		t.Fatal(err)
	}
	return string(header)
}

// TestProxyProtocol checks that the address in the header of a trusted proxy counts as the client's, for limits, for the mail
// server and for what is allowed without TLS.
func TestProxyProtocol(t *testing.T) {
	upstreamListener := listenTCP(t)
	seen := make(chan string, 10)
	serveScript(t, upstreamListener, func(w *wire) {
		seen <- w.readLine()
		fmt.Fprint(w.conn, "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] upstream\r\n")
		w.readLine()
	})
	config := testConfig(t)
	config.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	config.MaxUnauthenticated = 1
	config.Upstream = upstreamAt("tcp", upstreamListener)
	config.Upstream.ClientAddress = upstream.ClientAddressProxy
	e := start(t, config)
	through := func(i int, header string) *wire {
		conn := dialTCP(t, e, i)
		if _, err := conn.Write([]byte(header)); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			conn = tls.Client(conn, clientTLS(t, e))
		}
		return newWire(t, conn)
	}

	const header = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 993\r\n"
	first := through(0, header)
	first.expect(`\* OK .*AUTH=PLAIN`)
	if got := <-seen; got != header {
		t.Errorf("the server was told %q, want what we were told: %q", got, header)
	}
	for i := range 2 {
		second := through(i, header)
		second.expect(`\* BYE \[LIMIT\] Too many connections from your address`)
		second.expectEnd()
	}
	other := through(1, v2(t, origin.Origin{Client: netip.MustParseAddrPort("[2001:db8::7]:4711"), Server: netip.MustParseAddrPort("[2001:db8::1]:993")}))
	if greeting := other.expect(`\* OK `); !strings.Contains(greeting, "LOGINDISABLED") {
		t.Errorf("greeting without TLS is %q, want LOGINDISABLED", greeting)
	}
	if got := <-seen; got != "PROXY TCP6 2001:db8::7 2001:db8::1 4711 993\r\n" {
		t.Errorf("the server was told %q", got)
	}

	// A client on this machine according to the header, or without an address, does not count as local.
	for _, header := range []string{"PROXY TCP4 127.0.0.1 127.0.0.1 4711 143\r\n", "PROXY UNKNOWN\r\n", v2(t, origin.Origin{})} {
		claimed := through(1, header)
		if greeting := claimed.expect(`\* OK `); !strings.Contains(greeting, "LOGINDISABLED") {
			t.Errorf("%q: greeting is %q, want LOGINDISABLED", header, greeting)
		}
		claimed.send("a LOGIN alice wonderland\r\n")
		claimed.expect(`a NO \[PRIVACYREQUIRED\]`)
		claimed.conn.Close()
		waitFor(t, e, func() bool { return e.connections == 2 }) // the first and the other
		<-seen
	}

	missing := through(1, "a LOGIN alice wonderland\r\n")
	missing.expect(`\* BYE PROXY protocol header required`)
	missing.expectEnd()
	silent := newWire(t, dialTCP(t, e, 0))
	silent.conn.(*net.TCPConn).CloseWrite() // a health check
	silent.expectEnd()
	handshake := newWire(t, dialTCP(t, e, 0))
	if err := tls.Client(handshake.conn, clientTLS(t, e)).Handshake(); err == nil {
		t.Error("a TLS handshake without a header succeeded")
	}
	waitFor(t, e, func() bool { return e.connections == 2 && len(e.unauthenticated) == 4 })
}

// TestProxyProtocolTurnedAway checks that a client over the limit is told so after the header, through TLS.
func TestProxyProtocolTurnedAway(t *testing.T) {
	config := testConfig(t)
	config.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	config.MaxConnections = 1
	e := start(t, config)
	for i, want := range []string{`\* OK`, `\* BYE \[LIMIT\] Too many connections: try again`} {
		conn := dialTCP(t, e, 0)
		if _, err := fmt.Fprintf(conn, "PROXY TCP4 192.0.2.%d 198.51.100.1 4711 993\r\n", i); err != nil {
			t.Fatal(err)
		}
		newWire(t, tls.Client(conn, clientTLS(t, e))).expect(want)
	}
}

// TestProxyProtocolTrust checks that headers are accepted only from the configured networks, and required there within a time
// limit.
func TestProxyProtocolTrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		config.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		e := startPipes(t, config)
		forged := dialPipe(t, e, outside, false)
		forged.expect(`\* OK `)
		forged.send("PROXY TCP4 203.0.113.9 198.51.100.1 4711 143\r\n")
		forged.expect(`PROXY BAD`)
		forged.conn.Close()

		for _, slow := range []string{"", "PROXY TCP4 192.0.2.7 198.51.100.1 47"} {
			begin := time.Now()
			w := dialPipe(t, e, netip.MustParseAddrPort("10.0.0.5:4711"), false)
			w.send("%s", slow)
			w.expect(`\* BYE PROXY protocol header required`)
			if took := time.Since(begin); took != handshakeTimeout {
				t.Errorf("%q: ended after %v, want %v", slow, took, handshakeTimeout)
			}
			w.expectEnd()
		}
	})
}
