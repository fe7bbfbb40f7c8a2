package http

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// logged holds the lines of a log at level info, the default.
type logged chan string

func newLogged() (logged, *slog.Logger) {
	l := make(logged, 100)
	return l, slog.New(slog.NewTextHandler(l, nil))
}

func (l logged) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// want waits for a line with all of the texts in it.
func (l logged) want(t *testing.T, texts ...string) {
	t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case line := <-l:
			missing := false
			for _, text := range texts {
				missing = missing || !strings.Contains(line, text)
			}
			if !missing {
				return
			}
		case <-deadline:
			t.Fatalf("no line with %q", texts)
		}
	}
}

// TestPanicIsLogged checks that a panic is logged, and ends only the connection of its client.
func TestPanicIsLogged(t *testing.T) {
	lines, logger := newLogged()
	_, address := start(t, testConfig(), func(e *Endpoint) {
		e.handler.logger = logger
		e.handler.ready = func() bool { panic("a bug") }
	})
	wantClosed(t, address, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
	lines.want(t, "level=ERROR", "a bug", "stack=")
	if response, _ := get(t, address, "GET", "/healthz", ""); response.StatusCode != 200 {
		t.Errorf("others get status %d", response.StatusCode)
	}
}

func TestRefusedConnectionIsLogged(t *testing.T) {
	lines, logger := newLogged()
	c := testConfig()
	c.MaxConnections = 1
	_, address := start(t, c, func(e *Endpoint) { e.logger = logger })
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wantAnswer(t, conn)
	wantClosed(t, address, "")
	lines.want(t, "level=WARN", "too many", "client=127.0.0.1")
}

// failing is a listener of a process that has too many open files.
type failing struct{ net.Listener }

func (failing) Accept() (net.Conn, error) { return nil, syscall.EMFILE }
func (failing) Addr() net.Addr            { return &net.TCPAddr{} }

func TestFailureToAcceptIsLogged(t *testing.T) {
	lines, logger := newLogged()
	var present atomic.Pointer[settings]
	present.Store(new(settings))
	if _, err := newConnLimit(&present, logger).listener(failing{}).Accept(); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("got %v, want an error that makes net/http retry", err)
	}
	lines.want(t, "level=WARN", "too many open files")
}

// TestStrangeProxyIsLogged checks that the operator is warned once about an untrusted proxy, but not about clients on the internet
// that send a proxy's headers.
func TestStrangeProxyIsLogged(t *testing.T) {
	for _, tt := range []struct {
		remote, header string
		proto          int // HTTP/1.x
		trusted        string
		want           bool
	}{
		{"127.0.0.1:1", "X-Forwarded-For", 1, "10.0.0.0/8", true},
		{"[::1]:1", "Via", 1, "10.0.0.0/8", true},
		{"192.168.1.5:1", "Forwarded", 1, "10.0.0.0/8", true},
		{"127.0.0.1:1", "Accept", 0, "10.0.0.0/8", true},
		{"127.0.0.1:1", "Accept", 1, "10.0.0.0/8", false},
		{"127.0.0.1:1", "X-Forwarded-For", 1, "127.0.0.1/32", false},
		{"127.0.0.1:1", "X-Forwarded-For", 0, "127.0.0.1/32", false},
		{"198.51.100.7:1", "X-Forwarded-For", 1, "10.0.0.0/8", false},
	} {
		lines, logger := newLogged()
		h := &handler{logger: logger}
		present, err := newSettings(Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix(tt.trusted)}})
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{RemoteAddr: tt.remote, Proto: "HTTP/1.0", ProtoMajor: 1, ProtoMinor: tt.proto, Header: http.Header{tt.header: {"x"}}}
		for range 3 {
			h.noticeProxy(present, r)
		}
		if got := len(lines); got != map[bool]int{true: 1}[tt.want] {
			t.Errorf("%+v: %d lines", tt, got)
		}
	}
}
