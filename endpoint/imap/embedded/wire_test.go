package embedded

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/mailturn/mailturn/endpoint/imap/backend"
	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
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

// start runs a server with the user alice, whose password is wonderland, until the end of the test.
func start(t testing.TB, logged *bytes.Buffer) *Server {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	if logged != nil {
		logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	server, err := New(Users{"alice": credential.NewSecret([]byte("wonderland"))}, nil, logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// A wire is a raw connection to the server.
type wire struct {
	t    testing.TB
	conn backend.Conn
	r    *bufio.Reader
}

// A waitingConn is a connection whose Read waits.
type waitingConn struct{ backend.Conn }

func (c waitingConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if !errors.Is(err, patient.ErrNothingYet) {
			return n, err
		}
		c.Await(0)
	}
}

// dial connects and reads the greeting.
func dial(t testing.TB, server *Server) *wire {
	t.Helper()
	conn, err := server.Dial(t.Context(), origin.Origin{Client: netip.MustParseAddrPort("127.0.0.1:4711")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w := &wire{t, conn, bufio.NewReader(waitingConn{conn})}
	w.expect(`\* OK .* AUTH=PLAIN`)
	return w
}

// dialIn connects and logs in.
func dialIn(t testing.TB, server *Server) *wire {
	t.Helper()
	w := dial(t, server)
	w.login()
	return w
}

func (w *wire) login() {
	w.t.Helper()
	w.send("login LOGIN alice wonderland\r\n")
	w.expect(`login OK `)
}

func (w *wire) send(format string, args ...any) {
	w.t.Helper()
	if _, err := fmt.Fprintf(w.conn, format, args...); err != nil {
		w.t.Fatalf("send: %v", err)
	}
}

// line reads one line without its line end.
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

// until reads lines up to the tagged response, which it returns.
func (w *wire) until(tag string) string {
	w.t.Helper()
	for {
		if line := w.line(); strings.HasPrefix(line, tag+" ") {
			return line
		}
	}
}

// appendMessage sends a message and returns the tagged response.
func (w *wire) appendMessage(mailbox, message string) string {
	w.t.Helper()
	w.send("append APPEND %s {%d}\r\n", mailbox, len(message))
	if line := w.line(); !strings.HasPrefix(line, "+") {
		return line
	}
	w.send("%s\r\n", message)
	return w.until("append")
}

// command sends a command and returns its tagged response.
func (w *wire) command(format string, args ...any) string {
	w.t.Helper()
	w.send("c "+format+"\r\n", args...)
	return w.until("c")
}

// expectCommand sends a command and checks that the tagged response begins with want after the tag.
func (w *wire) expectCommand(command, want string) {
	w.t.Helper()
	if got := w.command("%s", command); !strings.HasPrefix(got, "c "+want) {
		w.t.Errorf("%.60s: got %q, want %s", command, got, want)
	}
}
