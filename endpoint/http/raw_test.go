package http

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

func testCertificate(t *testing.T, dir string) ([]certs.Pair, *tls.Config) {
	t.Helper()
	pair, _, err := certs.SelfSigned(dir, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pair.Cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return []certs.Pair{pair}, &tls.Config{RootCAs: roots}
}

// exchange sends bytes on a connection of its own and returns the statuses of the answers, until the server closes it or
// has nothing more to say to a client that has.
func exchange(t *testing.T, address, sent string) (statuses []int, all string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	go func() {
		io.WriteString(conn, sent) // the server may close before it has read all
		conn.(*net.TCPConn).CloseWrite()
	}()
	var received bytes.Buffer
	answers := bufio.NewReader(io.TeeReader(conn, &received))
	for {
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			return statuses, received.String()
		}
		statuses = append(statuses, response.StatusCode)
		io.Copy(io.Discard, response.Body)
	}
}

// TestSmuggling sends requests that two servers in a row may read differently (RFC 9112 section 11.2), with another request hidden
// in them, which must not be answered.
func TestSmuggling(t *testing.T) {
	_, address := start(t, testConfig())
	const hidden = "GET /turn?key=" + testKey + " HTTP/1.1\r\nHost: x\r\n\r\n"
	size := fmt.Sprint(len(hidden))
	post := func(headers ...string) string {
		return "POST /turn HTTP/1.1\r\nHost: x\r\nContent-Type: " + form + "\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
	}
	for _, tt := range []struct {
		name, sent string
		want       []int
	}{
		{"two requests that are meant as two", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + hidden, []int{200, 200}},
		{"body with its length", post("Content-Length: "+size) + hidden, []int{401}},
		{"CL.TE", post("Content-Length: "+size, "Transfer-Encoding: chunked") + "0\r\n\r\n" + hidden, []int{411}},
		{"TE.CL", post("Transfer-Encoding: chunked", "Content-Length: 4") + "5c\r\n" + hidden, []int{411}},
		{"TE alone", post("Transfer-Encoding: chunked") + "0\r\n\r\n" + hidden, []int{411}},
		{"TE twice", post("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + "0\r\n\r\n" + hidden, []int{501}},
		{"TE of two", post("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n" + hidden, []int{501}},
		{"TE in disguise, tab", post("Transfer-Encoding:\tchunked") + "0\r\n\r\n" + hidden, []int{411}},
		{"TE in disguise, vertical tab", post("Transfer-Encoding: \x0bchunked") + "0\r\n\r\n" + hidden, []int{400}},
		{"TE in disguise, space before the colon", post("Transfer-Encoding : chunked") + "0\r\n\r\n" + hidden, []int{400}},
		{"TE in HTTP/1.0", strings.Replace(post("Connection: keep-alive", "Transfer-Encoding: chunked"), "HTTP/1.1", "HTTP/1.0", 1) + "0\r\n\r\n" + hidden, []int{401}},
		{"two lengths", post("Content-Length: 0", "Content-Length: "+size) + hidden, []int{400}},
		{"two lengths in a line", post("Content-Length: 0, "+size) + hidden, []int{400}},
		{"the same length twice", post("Content-Length: "+size, "Content-Length: "+size) + hidden, []int{401}},
		{"length with a sign", post("Content-Length: +"+size) + hidden, []int{400}},
		{"negative length", post("Content-Length: -1") + hidden, []int{400}},
		{"hexadecimal length", post("Content-Length: 0x10") + hidden, []int{400}},
		{"empty length", post("Content-Length: ") + hidden, []int{400}},
		{"enormous length", post("Content-Length: 99999999999999999999") + hidden, []int{400}},
		{"length beyond what is accepted", post("Content-Length: 999999") + hidden, []int{413}},
		{"GET with a body", "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: " + size + "\r\n\r\n" + hidden, []int{400}},
		{"header name with a space", "GET /healthz HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n" + hidden, []int{400}},
		{"header name with NUL", "GET /healthz HTTP/1.1\r\nHost: x\r\nA\x00: c\r\n\r\n" + hidden, []int{400}},
		{"header value with NUL", "GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n" + hidden, []int{400}},
		{"header without colon", "GET /healthz HTTP/1.1\r\nHost: x\r\nAB\r\n\r\n" + hidden, []int{400}},
		{"about the server, with a body", "OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: " + size + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, []int{411}},
		{"no host", "GET /healthz HTTP/1.1\r\n\r\n" + hidden, []int{400}},
		{"two hosts", "GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + hidden, []int{400}},
		{"space in the path", "GET /healthz x HTTP/1.1\r\nHost: x\r\n\r\n" + hidden, []int{400}},
		{"HTTP/0.9", "GET /healthz\r\n\r\n" + hidden, []int{400}},
		{"HTTP/3.0", "GET /healthz HTTP/3.0\r\nHost: x\r\n\r\n" + hidden, []int{505}},
		{"not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + hidden, []int{400}},
		{"IMAP", "a LOGIN alice wonderland\r\n" + hidden, []int{400}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			statuses, all := exchange(t, address, tt.sent)
			if !slices.Equal(statuses, tt.want) {
				t.Errorf("got the statuses %v, want %v:\n%s", statuses, tt.want, all)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	short := func(e *Endpoint) {
		e.server.ReadHeaderTimeout, e.server.ReadTimeout = 50*time.Millisecond, 50*time.Millisecond
	}
	t.Run("none is left out", func(t *testing.T) {
		e, _ := start(t, testConfig())
		if s := e.server; s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout == 0 || s.IdleTimeout == 0 || s.HTTP2.WriteByteTimeout == 0 {
			t.Errorf("a time-out is missing: %+v", s)
		}
	})
	t.Run("giant header", func(t *testing.T) {
		_, address := start(t, testConfig())
		statuses, all := exchange(t, address, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")
		if !slices.Equal(statuses, []int{431}) {
			t.Errorf("got the statuses %v, want 431:\n%s", statuses, all)
		}
	})
	t.Run("giant body", func(t *testing.T) {
		_, address := start(t, testConfig())
		statuses, all := exchange(t, address, "POST /turn HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\n"+strings.Repeat("x", 8<<20))
		if !slices.Equal(statuses, []int{413}) {
			t.Errorf("got the statuses %v, want 413:\n%s", statuses, all)
		}
	})
	t.Run("header of a size that is accepted", func(t *testing.T) {
		_, address := start(t, testConfig())
		if statuses, all := exchange(t, address, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", maxHeaderBytes-100)+"\r\n\r\n"); !slices.Equal(statuses, []int{200}) {
			t.Errorf("got the statuses %v, want 200:\n%s", statuses, all)
		}
	})
	t.Run("header that never ends", func(t *testing.T) {
		_, address := start(t, testConfig(), short)
		wantClosed(t, address, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
	})
	t.Run("silence", func(t *testing.T) {
		_, address := start(t, testConfig(), short)
		wantClosed(t, address, "")
	})
	t.Run("body that never comes", func(t *testing.T) {
		_, address := start(t, testConfig(), short)
		wantClosed(t, address, "POST /turn HTTP/1.1\r\nHost: x\r\nContent-Type: "+form+"\r\nContent-Length: 100\r\n\r\nkey=")
	})
	t.Run("body that is not read", func(t *testing.T) {
		_, address := start(t, testConfig())
		wantClosed(t, address, "POST /turn HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n"+strings.Repeat("x", 100_000))
	})
	t.Run("silence between requests", func(t *testing.T) {
		_, address := start(t, testConfig(), func(e *Endpoint) { e.server.IdleTimeout = 50 * time.Millisecond })
		wantClosed(t, address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	})
}

// wantClosed sends a part of a request and checks that the server closes the connection.
func wantClosed(t *testing.T, address, sent string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, sent); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection was not closed: %v; it carried %q", err, answer)
	}
}

// TestConnectionLimit opens more connections than the limit.
func TestConnectionLimit(t *testing.T) {
	c := testConfig()
	c.MaxConnections = 3
	_, address := start(t, c, func(e *Endpoint) { e.server.ReadHeaderTimeout, e.server.ReadTimeout = 2*patience, 2*patience })
	var held []net.Conn
	for range c.MaxConnections {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		wantAnswer(t, conn)
		held = append(held, conn)
	}
	wantClosed(t, address, "")
	wantAnswer(t, held[0]) // those there are go on

	// The end of one makes room for another.
	held[1].Close()
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(deadline)
		io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("no room after a connection has ended: %v", err)
		}
	}
}

func TestConnectionLimitOfASource(t *testing.T) {
	var present atomic.Pointer[settings]
	present.Store(&settings{maxConnections: 1000, proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32")}})
	connections := newConnLimit(&present, slog.New(slog.DiscardHandler))
	enter := func(addr string) bool {
		_, ok := connections.enter(netip.MustParseAddr(addr))
		return ok
	}
	for range maxConnsPerSource {
		if !enter("2001:db8::1") {
			t.Fatal("refused below the limit")
		}
	}
	if enter("2001:db8::2") {
		t.Error("the same /64 has more connections than the limit")
	}
	if !enter("2001:db8:0:1::2") {
		t.Error("another /64 is refused")
	}
	for range 2 * maxConnsPerSource {
		if !enter("10.0.0.5") {
			t.Fatal("a trusted proxy is refused")
		}
	}
	connections.leave(limit.Host(netip.MustParseAddr("2001:db8::")))
	if !enter("2001:db8::2") {
		t.Error("refused after one has left")
	}
	for range 2 * maxConnsPerSource {
		connections.leave(netip.Prefix{})
	}
	for range maxConnsPerSource {
		connections.leave(limit.Host(netip.MustParseAddr("2001:db8::")))
	}
	connections.leave(limit.Host(netip.MustParseAddr("2001:db8:0:1::2")))
	if connections.total != 0 || len(connections.sources) != 0 {
		t.Errorf("when all have left, %d connections of %v are counted", connections.total, connections.sources)
	}
}

func wantAnswer(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("got %v, %v, want an answer", response, err)
	}
	io.Copy(io.Discard, response.Body)
}
