package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// The entries of Delta Chat.
const (
	turnEntry  = "/shared/vendor/deltachat/turn"
	turnsEntry = "/shared/vendor/deltachat/turns"
	irohEntry  = "/shared/vendor/deltachat/irohrelay"
	comments   = "/shared/comment"
)

// TestDict runs Dovecot with mailturn as its dictionary: TURN from mailturn, the comment from Dovecot's own settings, the
// rest from the next dictionary. Then another Dovecot asks the same dictionary, and one has a next dictionary that is down.
func TestDict(t *testing.T) {
	t.Parallel()
	eachDovecot(t, testDict)
}

func testDict(t *testing.T, version string, root *chroot.Root) {
	t.Parallel()
	next, nextPath := startDict(t, theirs)
	dir, err := os.MkdirTemp("", "door")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // for Dovecot's user
		t.Fatal(err)
	}
	path, orphan := filepath.Join(dir, "dict"), filepath.Join(dir, "orphan")
	p := freePorts(t)
	config := configure(t, p, allowLoopback, "")
	configureDoor(t, config, fmt.Sprintf(`
endpoint "dict" "dovecot" {
  path        = %q
  mode        = "0666"
  next        = %q
  turn_server = "127.0.0.1"
}
endpoint "dict" "orphan" {
  path        = %q
  mode        = "0666"
  next        = %q
  turn_server = "127.0.0.1"
}
`, path, nextPath, orphan, filepath.Join(dir, "nowhere")))
	s := start(t, t.TempDir(), "--config", config)
	options := dovecot.Options{Root: root, AttributeDict: "proxy:" + path + ":metadata", ServerComment: "calls work here"}

	// First with fresh accounts, then with another Dovecot at the same dictionary.
	for range 2 {
		d := startDovecot(t, options)
		var user string
		transcript := direct(d).record(t, func(u string) script {
			user = u
			return loggedIn(func(w *scriptWriter) {
				w.command(`GETMETADATA "" (` + comments + ` ` + irohEntry + ` ` + turnEntry + ` ` + turnsEntry + `)`)
				w.command(`GETMETADATA "" /Shared/Vendor/DeltaChat/TURN`)
				w.command(`GETMETADATA (DEPTH infinity) "" /shared/vendor/deltachat`)
				w.command(`SETMETADATA INBOX (/private/devicetoken "openpgp:abc")`)
				w.command(`GETMETADATA INBOX /private/devicetoken`)
				w.command(`SETMETADATA "" (` + turnEntry + ` "mine")`)
				w.command(`GETMETADATA "" ` + turnEntry)
			})(u)
		})
		text := strings.Join(transcript, "")
		answer := make(map[string]string)
		for _, response := range transcript {
			if metadataResponse.MatchString(response) {
				parseMetadata(t, response, answer)
				break
			}
		}
		if answer[irohEntry] != "https://iroh.example.org" || answer[comments] != "calls work here" {
			t.Errorf("got %q, want the next dictionary's entry and Dovecot's comment", answer)
		}
		if strings.Contains(text, "evil") || strings.Contains(text, "mine") {
			t.Errorf("a user's value replaces ours: %q", text)
		}
		if n := strings.Count(text, turnEntry+" {"); n < 3 {
			t.Errorf("%s is answered %d times, want 3: %q", turnEntry, n, text)
		}
		if value, _ := next.get(user + ":devicetoken"); value != "openpgp:abc" || !strings.Contains(text, "openpgp:abc") {
			t.Errorf("the token of %s is %q in the next dictionary: %q", user, value, text)
		}
		if value, _ := next.get(serverEntry + "vendor/deltachat/turn"); value != theirs[serverEntry+"vendor/deltachat/turn"] {
			t.Errorf("the next dictionary was told to keep %q", value)
		}
		if n := strings.Count(text, " NO "); n != 1 {
			t.Errorf("%d commands failed, want the one that sets our entry: %q", n, text)
		}
		c := parseValue(t, answer[turnEntry])
		if want := mint(c.username); c.password != want || c.port != fmt.Sprint(p.turn) {
			t.Errorf("got %+v, want port %d and password %s", c, p.turn, want)
		}
		if tls := parseValue(t, answer[turnsEntry]); tls.port != fmt.Sprint(p.turns) {
			t.Errorf("got %+v, want port %d", tls, p.turns)
		}
		relays(t, c, p.turn)
		s.waitFor(t, s.stderr, "allocation.account="+user+" ") // the relay knows whose call it was
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	}

	options.AttributeDict = "proxy:" + orphan + ":metadata"
	d := startDovecot(t, options)
	text := strings.Join(direct(d).record(t, loggedIn(func(w *scriptWriter) {
		w.command(`GETMETADATA "" (` + turnEntry + `)`)
		w.command(`GETMETADATA "" (` + irohEntry + `)`)
		w.command(`SETMETADATA INBOX (/private/devicetoken "openpgp:abc")`)
		w.command(`GETMETADATA "" (` + turnsEntry + `)`)
	})), "")
	if !strings.Contains(text, turnEntry+" {") || !strings.Contains(text, turnsEntry+" {") {
		t.Errorf("TURN is not answered while the next dictionary is down: %q", text)
	}
	if n := strings.Count(text, " NO "); n != 2 {
		t.Errorf("%d commands failed, want the two for the next dictionary: %q", n, text)
	}
	waitForLog(t, d, "the next dict server does not answer")
	s.waitFor(t, s.stderr, "next dict server")
	interop.Record(t, interop.Cell{
		Kind: interop.Door, Name: "Dovecot's dictionary client", Version: packageVersion(t, root, "dovecot-imapd"),
		How:     "the dict endpoint, in Dovecot of Debian " + map[string]string{"2.3": "12", "2.4": "13"}[version] + ": GETMETADATA, SETMETADATA, and a next dictionary",
		Control: "a user who sets the relay; the next dictionary down; wrong password",
	})
}
