package e2e

import (
	"bufio"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

// portable is a session of commands that every server has. It follows a login.
func (s imapServer) portable(seed uint64) script {
	r := rand.New(rand.NewPCG(seed, 5))
	archive := s.prefix + "Archive"
	w := &scriptWriter{pipeline: 1}
	w.command("CAPABILITY")
	w.command("NAMESPACE")
	w.command(fmt.Sprintf("CREATE {%d}\r\n", len(archive)), archive)
	w.command(`LIST "" *`)
	for range 3 {
		// Without LF alone, which Cyrus refuses, and with one flag a message at most: go-imap tells several in any order.
		text := strings.ReplaceAll(strings.ReplaceAll(message(r, 500+r.IntN(3000)), "\r\n", "\n"), "\n", "\r\n")
		w.command(fmt.Sprintf(`APPEND INBOX "01-Jul-2025 10:00:00 +0000" {%d}`+"\r\n", len(text)), text)
	}
	w.command("SELECT INBOX")
	w.command("FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)")
	w.command("FETCH 1:* BODY.PEEK[]")
	for range 10 {
		commands := []string{
			"NOOP", "CHECK", "FETCH 2 (BODY.PEEK[HEADER] BODY.PEEK[TEXT]<10.200>)", "UID FETCH 1:* (FLAGS BODY.PEEK[])", `STORE 1 +FLAGS (\Flagged)`,
			"COPY 1:2 " + archive, "STATUS " + archive + " (MESSAGES UIDNEXT UNSEEN)", "SELECT Nowhere", "SELECT INBOX", "NONSENSE with arguments", "FETCH",
		}
		w.command(commands[r.IntN(len(commands))])
	}
	w.command("SELECT INBOX")
	w.command("SEARCH SUBJECT {4}\r\n", "none")
	w.command("NONSENSE {4}\r\n", "none")
	w.command("IDLE\r\n", "DONE")
	w.command(`STORE 2 +FLAGS (\Deleted)`)
	w.command("EXPUNGE")
	w.command("CLOSE")
	w.alone("LOGOUT")
	return w.script
}

// sessionSeeds is how many sessions are compared.
const sessionSeeds = 3

// transcript runs the session with a login over a connection that dial opens.
func (s imapServer) transcript(dial dialer, seed uint64, limit time.Duration, byteAtATime bool) ([]string, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	login := script{{send: "l LOGIN " + s.user() + " " + dovecot.Password + "\r\n", await: []string{"l "}}}
	transcript, _, err := (&session{conn: conn, limit: limit, byteAtATime: byteAtATime}).run(append(login, s.portable(seed)...))
	return s.inOrder(transcript), err
}

func (s imapServer) dialDirect() (net.Conn, error) { return s.dial("") }

func checkSessions(t *testing.T, s imapServer, p *proxy) string {
	responses := 0
	for seed := range uint64(sessionSeeds) {
		want, err := s.transcript(s.dialDirect, seed, stepLimit, false)
		if err != nil {
			t.Fatalf("directly: %v after %.3000q", err, want)
		}
		for name, way := range map[string]struct {
			dial        dialer
			byteAtATime bool
		}{
			"directly again":        {s.dialDirect, false},
			"TLS":                   {p.dialTLS, false},
			"TLS, a byte at a time": {p.dialTLS, true},
		} {
			got, err := s.transcript(way.dial, seed, stepLimit, way.byteAtATime)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if diff := difference(want, got); diff != "" {
				t.Errorf("seed %d, %s: %s", seed, name, diff)
			}
		}
		responses += len(want)
	}
	t.Run("wrong proxies", func(t *testing.T) {
		want, err := s.transcript(s.dialDirect, 0, stepLimit, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range wrongProxies {
			if tt.dovecot {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				wrong := startRelay(t, s.addr, tt.wrong)
				got, err := s.transcript(func() (net.Conn, error) { return s.dial(wrong.addr()) }, 0, 2*time.Second, false)
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				if difference(want, got) == "" {
					t.Error("not noticed")
				}
			})
		}
	})
	return fmt.Sprintf("%d responses compared", responses)
}

// afterLogin returns a dialer that logs in and runs commands, which are accepted. Their place takes a greeting.
func (s imapServer) afterLogin(dial dialer, commands ...string) dialer {
	return func() (net.Conn, error) {
		conn, err := dial()
		if err != nil {
			return nil, err
		}
		c, err := loginTo(conn, s.user())
		if err != nil {
			return nil, err
		}
		for _, command := range commands {
			answer, err := c.command("m " + command)
			if err != nil || !strings.HasPrefix(answer, "m OK") {
				return nil, fmt.Errorf("%s is answered %q, %v", command, answer, err)
			}
			if command == "COMPRESS DEFLATE" {
				if conn, err = compressed(conn); err != nil {
					return nil, err
				}
			}
		}
		return &greeted{conn, strings.NewReader("* OK logged in\r\n")}, nil
	}
}

// deflated is a connection with DEFLATE in both directions (RFC 4978).
type deflated struct {
	net.Conn
	r io.Reader
	w *flate.Writer
}

func compressed(conn net.Conn) (net.Conn, error) {
	w, err := flate.NewWriter(conn, flate.DefaultCompression)
	return &deflated{conn, flate.NewReader(bufio.NewReader(conn)), w}, err
}

func (c *deflated) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *deflated) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	return n, errors.Join(err, c.w.Flush())
}

func checkCompress(t *testing.T, s imapServer, p *proxy) string {
	for seed := range uint64(sessionSeeds) {
		run := func(dial dialer) []string {
			conn, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			transcript, _, err := (&session{conn: conn, limit: stepLimit}).run(s.portable(seed))
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // a stream without its end
				t.Fatalf("%v after %.3000q", err, transcript)
			}
			return s.inOrder(transcript)
		}
		if diff := difference(run(s.afterLogin(s.dialDirect)), run(s.afterLogin(p.dialTLS, "COMPRESS DEFLATE"))); diff != "" {
			t.Errorf("seed %d: %s", seed, diff)
		}
	}
	conn, err := p.dialTLS()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := loginTo(conn, s.user())
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := c.command("c COMPRESS DEFLATE"); err != nil || !strings.HasPrefix(answer, "c OK") {
		t.Fatalf("COMPRESS is answered %q, %v", answer, err)
	}
	if answer, err := c.command("n NOOP"); err == nil {
		t.Errorf("a client that does not compress is answered %q", answer)
	}
	return ""
}
