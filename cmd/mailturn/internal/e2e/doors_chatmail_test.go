package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// chatmailVersion is the one that the requests and answers were recorded with: github.com/chatmail/relay, three commits after 1.12.0.
const chatmailVersion = "1.12.0, commit 48ad92b"

// exchange is a request and its answer, which not every request has.
type exchange struct {
	request, answer string
	answered        bool
}

// recordedMetadata reads what chatmail's metadata daemon (chatmaild/src/chatmaild/metadata.py) was asked and what it answered. One
// URL in it is shortened.
func recordedMetadata(t *testing.T) (exchanges []exchange) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "chatmail_metadata.txt"))
	if err != nil {
		t.Fatal(err)
	}
	replacer := strings.NewReplacer("GUID", "0123456789abcdef0123456789abcdef", "USER", "alice@nine.testrun.org")
	for line := range strings.Lines(replacer.Replace(string(text))) {
		line = strings.TrimSuffix(line, "\n")
		if request, ok := strings.CutPrefix(line, "> "); ok {
			exchanges = append(exchanges, exchange{request: request})
			continue
		}
		last := &exchanges[len(exchanges)-1]
		last.answer, last.answered = strings.TrimPrefix(line, "< "), true
	}
	return exchanges
}

// serveRecorded answers each connection as recorded, at a socket, until the test ends. Whatever was not recorded gets no answer.
func serveRecorded(t *testing.T, path string, exchanges []exchange) {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	answers := make(map[string]exchange)
	for _, e := range exchanges {
		answers[e.request] = e
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if e := answers[lines.Text()]; e.answered {
						fmt.Fprintf(conn, "%s\n", e.answer)
					}
				}
			}()
		}
	}()
}

// TestChatmailBehindDict passes Dovecot's requests to chatmail's metadata daemon through mailturn. mailturn itself answers those
// about the relay, whatever the daemon would say, and also while the daemon is down.
func TestChatmailBehindDict(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "chatmail") // short, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	up, next, down := filepath.Join(dir, "up"), filepath.Join(dir, "next"), filepath.Join(dir, "down")
	exchanges := recordedMetadata(t)
	serveRecorded(t, next, exchanges)
	p := freePorts(t)
	config := configure(t, p, allowLoopback, "")
	configureDoor(t, config, fmt.Sprintf(`
endpoint "dict" "up" {
  path        = %q
  next        = %q
  turn_server = "127.0.0.1"
}
endpoint "dict" "down" {
  path        = %q
  next        = %q
  turn_server = "127.0.0.1"
}
`, up, next, down, filepath.Join(dir, "nowhere")))
	start(t, t.TempDir(), "--config", config)

	// ask calls got with each request that was answered.
	ask := func(path string, got func(e exchange, answer string)) {
		t.Helper()
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(startLimit))
		answers := bufio.NewReader(conn)
		fmt.Fprint(conn, "H3\t2\t0\talice@nine.testrun.org\tmetadata\n")
		for _, e := range exchanges {
			fmt.Fprintf(conn, "%s\n", e.request)
			if !e.answered {
				continue
			}
			answer, err := answers.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", e.request, err)
			}
			got(e, strings.TrimSuffix(answer, "\n"))
		}
	}
	ours := func(e exchange) (port int, ok bool) {
		switch {
		case strings.Contains(e.request, "/deltachat/turn\t"):
			return p.turn, true
		case strings.Contains(e.request, "/deltachat/turns\t"):
			return p.turns, true
		}
		return 0, false
	}
	var relay credential
	ask(up, func(e exchange, answer string) {
		if port, ok := ours(e); ok {
			c := parseValue(t, strings.TrimPrefix(answer, "O"))
			if c.host != "127.0.0.1" || c.port != fmt.Sprint(port) || c.password != mint(c.username) {
				t.Errorf("%s is answered %q, want our relay on port %d", e.request, answer, port)
			}
			if port == p.turn {
				relay = c
			}
		} else if answer != e.answer {
			t.Errorf("%s is answered %q, want %q", e.request, answer, e.answer)
		}
	})
	ask(down, func(e exchange, answer string) {
		want := "F"
		if _, ok := ours(e); ok {
			want = "O127.0.0.1:"
		}
		if !strings.HasPrefix(answer, want) {
			t.Errorf("while the daemon is down, %s is answered %q, want %s", e.request, answer, want)
		}
	})
	relays(t, relay, p.turn)
	interop.Record(t, interop.Cell{
		Kind: interop.Door, Name: "chatmail's metadata daemon", Version: chatmailVersion, Control: "the daemon down; wrong password",
		How: "behind the dict endpoint: recorded requests pass, and the relay is ours", Figures: fmt.Sprintf("%d requests", len(exchanges)),
	})
}

// relays moves data under a credential, and none under another password.
func relays(t *testing.T, c credential, port int) {
	t.Helper()
	uclient(t, c, port, "-y", "-m", "2", "-n", "5").wantAllBack(t)
	c.password = mint(c.password)
	uclient(t, c, port, "-y", "-m", "2", "-n", "1").wantNone(t, "Cannot complete Allocation")
}
