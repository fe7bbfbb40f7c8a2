package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

// A recorder runs scripts over connections that dial opens.
type recorder struct {
	dial        dialer
	server      string // where messages are delivered
	limit       time.Duration
	byteAtATime bool
}

func direct(d *dovecot.Server) recorder {
	return recorder{dial: dialPlain(d.Addr), server: d.Addr, limit: stepLimit}
}

// through is rec with connections that dial opens.
func (rec recorder) through(dial dialer) recorder {
	rec.dial = dial
	return rec
}

// slowly is rec with each byte of the client sent separately.
func (rec recorder) slowly() recorder {
	rec.byteAtATime = true
	return rec
}

// run runs a script as a new user.
func (rec recorder) run(write func(user string) script) (transcript []string, sent string, err error) {
	conn, err := rec.dial()
	if err != nil {
		return nil, "", err
	}
	user := newUser()
	s := &session{conn: conn, limit: rec.limit, byteAtATime: rec.byteAtATime, deliver: deliverTo(rec.server, user)}
	return s.run(write(user))
}

// record is run for scripts that must complete.
func (rec recorder) record(t *testing.T, write func(user string) script) []string {
	t.Helper()
	transcript, _, err := rec.run(write)
	if err != nil {
		t.Fatalf("%v\ntranscript: %.5000q", err, transcript)
	}
	return transcript
}

// deliverTo appends messages to the INBOX of user, through a connection of its own.
func deliverTo(server, user string) func(message string) error {
	return func(message string) error {
		conn, err := dialPlain(server)()
		if err != nil {
			return err
		}
		w := &scriptWriter{}
		w.alone("LOGIN " + user + " " + dovecot.Password)
		w.alone(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(message), message))
		w.alone("LOGOUT")
		_, _, err = (&session{conn: conn, limit: stepLimit}).run(w.script)
		return err
	}
}

// dialStartTLS returns a connection that has been through STARTTLS, on which the greeting is yet to be read.
func (p *proxy) dialStartTLS() (net.Conn, error) {
	conn, err := dialPlain(p.addr())()
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	conn.SetDeadline(time.Now().Add(dialTimeout))
	greeting, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	io.WriteString(conn, "a STARTTLS\r\n")
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "a OK ") {
		return nil, fmt.Errorf("got %q to STARTTLS, and %v", line, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	tlsConn := tls.Client(conn, p.tls)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return &greeted{tlsConn, strings.NewReader(greeting)}, nil
}

// greeted is a connection with the greeting put back.
type greeted struct {
	net.Conn
	greeting *strings.Reader
}

func (c *greeted) Read(p []byte) (int, error) {
	if c.greeting.Len() > 0 {
		return c.greeting.Read(p)
	}
	return c.Conn.Read(p)
}

// loggedIn returns a script of a login and commands.
func loggedIn(commands func(w *scriptWriter)) func(user string) script {
	return func(user string) script {
		w := &scriptWriter{pipeline: 1}
		w.command("LOGIN " + user + " " + dovecot.Password)
		commands(w)
		w.alone("LOGOUT")
		return w.script
	}
}

// bigSize is the size of the one big message.
const bigSize = 20 << 20

// features are sessions each about one thing that a proxy has to let through.
var features = []struct {
	name  string
	write func(user string) script
}{
	{"literals of each form", loggedIn(func(w *scriptWriter) {
		w.command("CREATE {5}\r\n", "one-1")
		w.command("CREATE {5+}\r\ntwo-2")
		w.command("RENAME {5+}\r\none-1 {7}\r\n", "three-3")
		w.command("CREATE {0}\r\n", "")
		w.command("CREATE {5}\n", "lf-lf")
		w.command(`LIST {0+}` + "\r\n" + ` "*"`)
		w.command("APPEND INBOX ~{4+}\r\na\x00\r\n")
		w.command("APPEND INBOX ~{6}\r\n", "\x00\x01\xff\xfe\r\n")
		w.command("APPEND INBOX {9+}\r\nA: b\r\n\r\n\xff")
		w.command("APPEND INBOX {3+}\r\na\nb {3+}\r\nc\rd {0+}\r\n")
		w.command("SELECT INBOX")
		w.command("FETCH 1:* (FLAGS BODY.PEEK[] BINARY.PEEK.SIZE[] RFC822.SIZE)")
		w.command(`SEARCH OR TEXT {1}`+"\r\n", `a HEADER {1+}`+"\r\nA {1}\r\n", "b")
	})},
	{"refused literals", loggedIn(func(w *scriptWriter) {
		w.command("APPEND Nowhere {10}\r\n", "0123456789")
		w.command("APPEND Nowhere {10+}\r\n0123456789")
		w.command("NONSENSE {5}\r\n", "hello")
		w.command("COPY 1 {5+}\r\nhello")
		w.command("LIST {5+}\r\nhello nonsense nonsense {3+}\r\nabc")
		w.command("NOOP")
	})},
	{"lines that end in LF", func(user string) script {
		return script{
			{send: "a LOGIN " + user + " " + dovecot.Password + "\n", await: []string{"a "}},
			{send: "b NOOP\nc SELECT INBOX\r\nd CHECK\n", await: []string{"b ", "c ", "d "}},
			{send: "e APPEND INBOX {3+}\nabc\n", await: []string{"e "}},
			{send: "f FETCH 1 BODY[]\n", await: []string{"f "}},
			{send: "g IDLE\n", plus: "g"},
			{send: "DONE\nh LOGOUT\n", await: []string{"g ", "h "}},
		}
	}},
	{"AUTHENTICATE", func(user string) script {
		w := &scriptWriter{pipeline: 1}
		w.command("AUTHENTICATE NONSENSE")
		w.command("AUTHENTICATE PLAIN\r\n", "*")
		w.command("AUTHENTICATE PLAIN\r\n", "not base64")
		w.command("AUTHENTICATE PLAIN =")
		w.command("AUTHENTICATE PLAIN " + saslPlain("") + "\r\nt999 NOOP")
		w.command("AUTHENTICATE PLAIN " + saslPlain(user))
		w.command("AUTHENTICATE PLAIN " + saslPlain(user))
		w.alone("LOGOUT")
		return w.script
	}},
	{"IDLE and a message that comes", loggedIn(func(w *scriptWriter) {
		w.command("SELECT INBOX")
		w.script = append(w.script,
			step{send: "i IDLE\r\n", plus: "i"},
			step{deliver: "Subject: one {3}\r\n\r\nbody\r\n", await: []string{"* 1 EXISTS"}},
			step{deliver: "Subject: two\r\n\r\nbody\r\n", await: []string{"* 2 EXISTS"}},
			step{send: "DONE\r\nj FETCH 1:2 BODY[]\r\n", await: []string{"i ", "j "}},
			step{send: "k IDLE\r\n", plus: "k"},
			step{send: "l NOOP\r\nm NOOP\r\n", await: []string{"k ", "m "}})
	})},
	{"NOTIFY", loggedIn(func(w *scriptWriter) {
		w.command("CREATE Other")
		w.command("SELECT Other")
		w.command("NOTIFY SET STATUS (SELECTED (MessageNew (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge)) (INBOXES (MessageNew MessageExpunge FlagChange))")
		w.script = append(w.script, step{deliver: "Subject: one\r\n\r\nbody\r\n", await: []string{"* STATUS INBOX (MESSAGES 1"}})
		w.command("NOTIFY NONE")
		w.command("NOTIFY SET (NONSENSE)")
	})},
	{"states and extensions", loggedIn(func(w *scriptWriter) {
		w.command("ENABLE CONDSTORE QRESYNC UTF8=ACCEPT")
		w.command("ENABLE NONSENSE")
		w.command("SELECT INBOX (QRESYNC (1 1))")
		w.command("UNSELECT")
		w.command("FETCH 1 FLAGS")
		w.command("EXAMINE INBOX")
		w.command("CLOSE")
		w.command(`CREATE "gr&APwA3w-e"`)
		w.command("CREATE \"gr\xc3\xbc\xc3\x9fe\"")
		w.command(`LIST (SUBSCRIBED REMOTE) "" (INBOX "gr*") RETURN (CHILDREN STATUS (MESSAGES))`)
		w.command("SUBSCRIBE INBOX")
		w.command(`LSUB "" *`)
		w.command("GETQUOTAROOT INBOX")
		w.command("COMPARATOR")
		w.command("SELECT INBOX")
		w.command("SEARCH RETURN (SAVE) ALL")
		w.command("UID FETCH $ FLAGS")
		w.command("UNAUTHENTICATE")
		w.command("NOOP")
	})},
	{"commands that Dovecot does not know, until it ends the session", func(user string) script {
		w := &scriptWriter{pipeline: 1}
		w.command("LOGIN " + user + " " + dovecot.Password)
		for range 20 {
			w.command("NONSENSE")
		}
		return w.script
	}},
	{"too many commands before login", func(string) script {
		return script{
			{send: "a SELECT INBOX\r\n", await: []string{"a "}},
			{send: "b SELECT INBOX\r\n", await: []string{"b "}},
			{send: "c SELECT INBOX\r\n", await: []string{"* BYE"}},
		}
	}},
	{"message of 20 MB", loggedIn(func(w *scriptWriter) {
		message := message(rand.New(rand.NewPCG(1, 3)), bigSize)
		w.command(fmt.Sprintf("APPEND INBOX {%d}\r\n", len(message)), message)
		w.command("SELECT INBOX")
		w.command("FETCH 1 (BODY.PEEK[] FLAGS)")
		w.command("FETCH 1 BODY.PEEK[]<10485760.1000000>")
	})},
}

// TestDirectAndProxied runs the same sessions with Dovecot directly and through mailturn in front of it, in every way that
// a client connects, and compares what came back byte for byte.
func TestDirectAndProxied(t *testing.T) { eachDovecot(t, testDirectAndProxied) }

func testDirectAndProxied(t *testing.T, _ string, root *chroot.Root) {
	d := startDovecot(t, dovecot.Options{Root: root})
	p := startProxy(t, d.Addr)
	ways := []struct {
		name string
		recorder
	}{
		{"TLS", direct(d).through(p.dialTLS)},
		{"plain", direct(d).through(dialPlain(p.addr()))},
		{"STARTTLS", direct(d).through(p.dialStartTLS)},
		{"TLS, a byte at a time", direct(d).through(p.dialTLS).slowly()},
		{"plain, a byte at a time", direct(d).through(dialPlain(p.addr())).slowly()},
	}
	compare := func(t *testing.T, write func(user string) script, slow bool) {
		t.Parallel()
		want := direct(d).record(t, write)
		for _, way := range ways {
			if way.byteAtATime && !slow {
				continue
			}
			if diff := difference(want, way.record(t, write)); diff != "" {
				t.Errorf("%s: %s", way.name, diff)
			}
		}
	}
	for _, feature := range features {
		t.Run(feature.name, func(t *testing.T) { compare(t, feature.write, !strings.HasSuffix(feature.name, "MB")) })
	}
	for seed := range uint64(12) {
		pipeline := []int{1, 3, 10}[seed%3]
		t.Run(fmt.Sprintf("seed %d, %d commands at once", seed, pipeline), func(t *testing.T) {
			// When bytes are sent one at a time, the network decides which arrive together.
			compare(t, func(user string) script {
				return (&scriptWriter{pipeline: pipeline, ordered: true}).random(seed, user, 40)
			}, pipeline == 1)
		})
	}
}

// TestUpstreamBytes runs sessions with everything pipelined, which Dovecot answers in a different order each time: it compares what
// the client received with what Dovecot sent in the same session, and what Dovecot received with what the client sent.
func TestUpstreamBytes(t *testing.T) {
	t.Parallel()
	eachDovecot(t, testUpstreamBytes)
}

func testUpstreamBytes(t *testing.T, _ string, root *chroot.Root) {
	d := startDovecot(t, dovecot.Options{Root: root})
	for _, way := range []struct {
		name string
		dial func(p *proxy) dialer
		slow bool
	}{
		{"TLS", func(p *proxy) dialer { return p.dialTLS }, false},
		{"plain", func(p *proxy) dialer { return dialPlain(p.addr()) }, false},
		{"TLS, a byte at a time", func(p *proxy) dialer { return p.dialTLS }, true},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			tap := startRelay(t, d.Addr, nil)
			rec := direct(d).through(way.dial(startProxy(t, tap.addr())))
			rec.byteAtATime = way.slow
			for seed := range uint64(10) {
				transcript, sent, err := rec.run(func(user string) script { return (&scriptWriter{pipeline: 12, sync: true}).random(seed, user, 40) })
				if err != nil {
					t.Fatalf("seed %d: %v\ntranscript: %.5000q", seed, err, transcript)
				}
				received, said := tap.last(t)
				if diff := difference(said, transcript); diff != "" {
					t.Errorf("seed %d: what the client got is not what Dovecot said: %s", seed, diff)
				}
				if diff := firstDifference(sent, received); diff != "" {
					t.Errorf("seed %d: what Dovecot got is not what the client said: %s", seed, diff)
				}
			}
		})
	}
}

// TestComparisonsNotice replaces mailturn with faulty proxies and checks that both comparisons fail.
func TestComparisonsNotice(t *testing.T) {
	d := startDovecot(t, dovecot.Options{})
	write := func(user string) script { return (&scriptWriter{pipeline: 3, ordered: true}).random(2, user, 20) }
	want := direct(d).record(t, write)
	if diff := difference(want, direct(d).record(t, write)); diff != "" {
		t.Errorf("two sessions without a proxy differ: %s", diff)
	}
	for _, tt := range wrongProxies {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tap := startRelay(t, d.Addr, nil)
			rec := direct(d).through(dialPlain(startRelay(t, tap.addr(), tt.wrong).addr()))
			rec.limit = 2 * time.Second // a client that misses bytes waits for them
			transcript, _, err := rec.run(write)
			switch {
			case err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.ErrUnexpectedEOF):
				t.Fatal(err)
			case difference(want, transcript) == "":
				t.Error("not noticed beside a session without it")
			}
			if _, said := tap.last(t); difference(said, transcript) == "" {
				t.Error("not noticed beside what the server said")
			}
		})
	}
}
