package dict

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/framework/module/moduletest"
	"github.com/mailturn/mailturn/framework/socket"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

const (
	hello  = "H3\t2\t0\t\tmetadata"
	server = "shared/54824d17954b016bac1c000083ecc375/vendor/vendor.dovecot/pvt/server/"
	turn   = "L" + server + "vendor/deltachat/turn\talice"
	token  = "Lpriv/54824d17954b016bac1c000083ecc375/devicetoken\talice"
)

func testConfig(t testing.TB) Config {
	t.Helper()
	return Config{
		Name:     "dict",
		Socket:   socket.Config{Path: filepath.Join(moduletest.SocketDir(t), "dict.socket"), Mode: 0o600, UID: -1, GID: -1},
		Settings: Settings{MaxConnections: 10},
		TURN: issuer.Config{
			Server:  config.Value[string]{V: "turn.example.org"},
			Port:    config.Value[uint16]{V: 3478},
			UDPPort: 3478, TCPPort: 3478,
			TLSPort: config.Value[uint16]{V: 5349},
			Secrets: config.Value[[]credential.Secret]{V: []credential.Secret{credential.NewSecret([]byte("test-secret"))}},
			TTL:     config.Value[time.Duration]{V: 120 * time.Hour},
		},
	}
}

// client is a client of the endpoint.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func dial(t testing.TB, path string, lines ...string) *client {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	c := &client{t, conn, bufio.NewReader(conn)}
	c.send(lines...)
	return c
}

func (c *client) send(lines ...string) {
	c.t.Helper()
	for _, line := range lines {
		if _, err := io.WriteString(c.conn, line+"\n"); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *client) want(prefixes ...string) {
	c.t.Helper()
	for _, prefix := range prefixes {
		line, err := c.r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, prefix) {
			c.t.Fatalf("got %q, %v, want %q", line, err, prefix)
		}
	}
}

// wantEnd checks that the server closes the connection without sending anything.
func (c *client) wantEnd() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("got %.80q, %v, want the end", rest, err)
	}
}

// next is the next server of the endpoint. answer returns its answer to a line; closing it closes its connections too.
type next struct {
	listener *net.UnixListener
	serving  sync.WaitGroup

	mu    sync.Mutex
	lines []string
	conns []net.Conn
}

func startNext(t testing.TB, path string, answer func(line string) string) *next {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	n := &next{listener: listener}
	n.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n.mu.Lock()
			n.conns = append(n.conns, conn)
			n.mu.Unlock()
			n.serving.Go(func() {
				defer conn.Close()
				for r := bufio.NewReader(conn); ; {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					line = strings.TrimSuffix(line, "\n")
					n.mu.Lock()
					n.lines = append(n.lines, line)
					n.mu.Unlock()
					said := answer(line)
					if said == "close" {
						return
					}
					io.WriteString(conn, said)
				}
			})
		}
	})
	t.Cleanup(n.close)
	return n
}

func (n *next) close() {
	n.listener.Close()
	n.mu.Lock()
	for _, conn := range n.conns {
		conn.Close()
	}
	n.mu.Unlock()
	n.serving.Wait()
}

func (n *next) got() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.lines, "\n")
}

// store answers as chatmail's metadata daemon does.
func store(line string) string {
	switch line[0] {
	case 'L':
		return "Oof the next server\n"
	case 'I':
		return "Opriv/x/y\tz\n\n"
	case 'C':
		return "O" + line[1:] + "\n"
	}
	return ""
}

func TestNext(t *testing.T) {
	c := testConfig(t)
	c.Next = c.Socket.Path + ".next"
	n := startNext(t, c.Next, store)
	moduletest.Start(t, New, c)
	d := dial(t, c.Socket.Path, hello, turn, token)
	d.want("Oturn.example.org:3478:", "Oof the next server\n")
	// Without waiting for answers, as a client may.
	d.send("B1\talice", "S1\tpriv/x/devicetoken\topenpgp:abc\x01td", "C1", turn, "I9\t0\tpriv/x/\talice", token)
	d.want("O1\n", "Oturn.example.org:3478:", "Opriv/x/y\tz\n", "\n", "Oof the next server\n")
	d.conn.Close()
	want := strings.Join([]string{hello, token, "B1\talice", "S1\tpriv/x/devicetoken\topenpgp:abc\x01td", "C1", "I9\t0\tpriv/x/\talice", token}, "\n")
	if got := n.got(); got != want {
		t.Errorf("the next server got\n%q, want\n%q", got, want)
	}
}

// TestUserHasOneOfSeveralRelays checks that each user is given the relay that issuer.Config.For chooses.
func TestUserHasOneOfSeveralRelays(t *testing.T) {
	c := testConfig(t)
	single := c.TURN
	for i := range 3 {
		relay := single
		relay.Server.V = fmt.Sprintf("turn%d.example.org", i)
		c.TURN.Relays = append(c.TURN.Relays, issuer.WeightedRelay{Config: relay, Weight: 1})
	}
	moduletest.Start(t, New, c)
	client := dial(t, c.Socket.Path, hello)
	for i := range 20 {
		user := fmt.Sprintf("user%d@example.org", i)
		client.send("L" + server + "vendor/deltachat/turn\t" + user)
		client.want("O" + c.TURN.For(user).Server.V + ":3478:")
	}
}

func TestNextDown(t *testing.T) {
	c := testConfig(t)
	c.Next = c.Socket.Path + ".next"
	moduletest.Start(t, New, c)
	d := dial(t, c.Socket.Path, hello, turn, token, "B1\talice", "S1\tpriv/x/y\tz", "C1", "I9\t0\tpriv/x/\talice", turn)
	d.want("Oturn.example.org:3478:", "Fthe next dict server", "F1\tthe next dict server", "Fthe next dict server", "Oturn.example.org:3478:")

	n := startNext(t, c.Next, store)
	d.send(token, "B2\talice", "C2")
	d.want("Oof the next server\n", "O2\n")

	// The next server restarts in the middle of a transaction, which is lost; later ones are not.
	d.send("B3\talice", "S3\tpriv/x/y\tz", token)
	d.want("Oof the next server\n")
	n.close()
	n = startNext(t, c.Next, store)
	d.send(token, "C3", "B4\talice", "C4")
	d.want("Oof the next server\n", "F3\tthe next dict server went away\n", "O4\n")

	// It restarts before a transaction begins, which no client notices.
	n.close()
	n = startNext(t, c.Next, store)
	d.send("B5\talice", "S5\tpriv/x/y\tz", "C5")
	d.want("O5\n")
	if got := n.got(); got != hello+"\nB5\talice\nS5\tpriv/x/y\tz\nC5" {
		t.Errorf("the next server got %q", got)
	}
}

// TestNextBreaks checks a next server that disconnects, or sends nonsense, instead of an answer.
func TestNextBreaks(t *testing.T) {
	c := testConfig(t)
	c.Next = c.Socket.Path + ".next"
	answers := map[string]string{"C1": "close", "I9\t0\tpriv/x/\talice": "Opriv/x/y\tz\n" + strings.Repeat("x", maxAnswerLine+5000), token: "\n", "Lpriv/x/long\talice": strings.Repeat("x", maxAnswerLine+2) + "\n"}
	startNext(t, c.Next, func(line string) string { return answers[line] })
	moduletest.Start(t, New, c)
	d := dial(t, c.Socket.Path, hello, "B1\talice", "C1")
	d.want("W1\tthe next dict server went away\n")
	d.send("I9\t0\tpriv/x/\talice")
	d.want("Opriv/x/y\tz\n", "Fthe next dict server went away\n")
	d.send(token, "Lpriv/x/long\talice", turn)
	d.want("Fthe next dict server went away\n", "Fthe next dict server went away\n", "Oturn.example.org:3478:")
}

func TestHostile(t *testing.T) {
	c := testConfig(t)
	moduletest.Start(t, New, c)
	key := strings.Repeat("x", 64*1024-len("L\talice"))
	d := dial(t, c.Socket.Path, hello, "L"+key+"\talice")
	d.want("N\n")
	for _, lines := range []string{
		"L" + key + "y\talice\n",
		strings.Repeat("L", 200000),
		"H2\t2\t0\t\tmetadata\n" + turn + "\n",
		"H5\t0\t0\t\tmetadata\n" + turn + "\n",
		"\n\n\n",
		hello + "\nC1\n",
		hello + "\nGET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"\x00\x01\x02\n",
	} {
		d := dial(t, c.Socket.Path)
		io.WriteString(d.conn, lines) // cut off, perhaps
		d.wantEnd()
	}
	d.send(turn)
	d.want("Oturn.example.org:3478:")
}

// TestLogIsBounded checks that neither clients of another version nor a next server that is down cause a line in the log for each
// connection.
func TestLogIsBounded(t *testing.T) {
	c := testConfig(t)
	c.MaxConnections = 100
	c.Next = c.Socket.Path + ".next"
	var lines bytes.Buffer
	e, err := New(c, slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		dial(t, c.Socket.Path, "H2\t2\t0\t\tmetadata").wantEnd()
		dial(t, c.Socket.Path, "GET / HTTP/1.1").wantEnd()
		dial(t, c.Socket.Path, hello, token).want("Fthe next dict server")
	}
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(lines.String(), "\n"); n == 0 || n > log.LinesPerMinute {
		t.Errorf("%d lines, want some and at most %d:\n%s", n, log.LinesPerMinute, &lines)
	}
}

func TestMaxConnections(t *testing.T) {
	c := testConfig(t)
	moduletest.Start(t, New, c)
	var held []*client
	for range c.MaxConnections {
		d := dial(t, c.Socket.Path, hello, turn)
		d.want("Oturn.example.org:3478:")
		held = append(held, d)
	}
	dial(t, c.Socket.Path).wantEnd()
	held[0].conn.Close()
	for { // the place becomes free when the server notices
		conn, err := net.Dial("unix", c.Socket.Path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s\n%s\n", hello, turn)
		line, _ := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if strings.HasPrefix(line, "Oturn.example.org") {
			break
		}
	}
}

func TestReload(t *testing.T) {
	c := testConfig(t)
	e := moduletest.Start(t, New, c)
	d := dial(t, c.Socket.Path, hello, turn)
	d.want("Oturn.example.org:3478:")
	changed := c
	changed.TURN.Server.V = "turn2.example.org"
	changed.TURN.TLSPort.V = 0
	moduletest.Reload(t, e, changed)
	d.send(turn, "L"+server+"vendor/deltachat/turns\talice")
	d.want("Oturn2.example.org:3478:", "N\n")

	moved := changed
	moved.Socket.Path += "2"
	moduletest.Reload(t, e, moved)
	dial(t, moved.Socket.Path, hello, turn).want("Oturn2.example.org:3478:")
	d.send(turn)
	d.want("Oturn2.example.org:3478:")
	if _, err := net.Dial("unix", c.Socket.Path); err == nil {
		t.Error("the old socket still answers")
	}

	bad := moved
	bad.Socket.Path = "/nowhere/dict.socket"
	if _, err := e.Prepare(bad); err == nil {
		t.Error("no error")
	}
	bad = moved
	bad.TURN.Secrets.V = nil
	if _, err := e.Prepare(bad); err == nil {
		t.Error("no error")
	}
	dial(t, moved.Socket.Path, hello, turn).want("Oturn2.example.org:3478:")
}

// TestShutdown checks that idle connections end immediately, and one that waits for the next server at the deadline.
func TestShutdown(t *testing.T) {
	c := testConfig(t)
	c.Next = c.Socket.Path + ".next"
	asked := make(chan struct{})
	startNext(t, c.Next, func(line string) string {
		if line == token {
			close(asked)
		}
		return "" // never
	})
	e := moduletest.Start(t, New, c)
	idle := dial(t, c.Socket.Path, hello, turn)
	idle.want("Oturn.example.org:3478:")
	waiting := dial(t, c.Socket.Path, hello, token)
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.Shutdown(ctx) }()
	idle.wantEnd()
	select {
	case err := <-done:
		t.Fatalf("Shutdown did not wait for a request: %v", err)
	default:
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	waiting.conn.SetDeadline(time.Now().Add(time.Minute))
	if rest, err := io.ReadAll(waiting.r); errors.Is(err, os.ErrDeadlineExceeded) || strings.HasPrefix(string(rest), "O") {
		t.Errorf("got %q, %v", rest, err)
	}
	if _, err := os.Lstat(c.Socket.Path); !os.IsNotExist(err) {
		t.Errorf("the socket still exists: %v", err)
	}
}

// TestShutdownWaits checks that a request in progress is answered.
func TestShutdownWaits(t *testing.T) {
	c := testConfig(t)
	c.Next = c.Socket.Path + ".next"
	asked, release := make(chan struct{}), make(chan struct{})
	startNext(t, c.Next, func(line string) string {
		if line == token {
			close(asked)
			<-release
		}
		return store(line)
	})
	e := moduletest.Start(t, New, c)
	idle := dial(t, c.Socket.Path, hello, turn)
	idle.want("Oturn.example.org:3478:")
	waiting := dial(t, c.Socket.Path, hello, token)
	<-asked
	done := make(chan error)
	go func() { done <- e.Shutdown(t.Context()) }()
	idle.wantEnd() // so that the shutdown has begun
	close(release)
	waiting.want("Oof the next server\n")
	waiting.wantEnd()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLineReader(t *testing.T) {
	for _, tt := range []struct {
		name, input string
		limit       int
		want        []string
		end         string
	}{
		{"lines", "a\n\nbc\n", 10, []string{"a", "", "bc"}, "EOF"},
		{"no LF at the end", "a\nb", 10, []string{"a"}, "EOF"},
		{"just long enough", "0123456789\n", 10, []string{"0123456789"}, "EOF"},
		{"too long", "0123456789x\n", 10, nil, "more than 10 bytes"},
		{"long", strings.Repeat("x", 10000) + "\ny\n", 10000, []string{strings.Repeat("x", 10000), "y"}, "EOF"},
		{"long and one more", strings.Repeat("x", 10001) + "\n", 10000, nil, "more than 10000 bytes"},
		{"endless", strings.Repeat("x", 20000), 10000, nil, "more than 10000 bytes"},
	} {
		l := newLineReader(strings.NewReader(tt.input), tt.limit)
		for _, want := range tt.want {
			if got, err := l.next(); got != want || err != nil {
				t.Errorf("%s: got %.20q, %v, want %.20q", tt.name, got, err, want)
			}
		}
		if _, err := l.next(); err == nil || !strings.Contains(err.Error(), tt.end) {
			t.Errorf("%s: ends with %v, want %s", tt.name, err, tt.end)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	c := testConfig(b)
	moduletest.Start(b, New, c)
	d := dial(b, c.Socket.Path, hello)
	b.ReportAllocs()
	for b.Loop() {
		d.send(turn)
		d.want("Oturn")
	}
}
