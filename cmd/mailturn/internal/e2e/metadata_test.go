package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

// serverEntry is what Dovecot puts before the names of entries of the server in its dictionary.
const serverEntry = "vendor/vendor.dovecot/pvt/server/"

// theirs are entries that the relay's own dictionary has: one of ours is among them, as any user may set it.
var theirs = map[string]string{
	serverEntry + "vendor/deltachat/irohrelay":         "https://iroh.example.org",
	serverEntry + "vendor/deltachat/maxsmtprecipients": "1000",
	serverEntry + "vendor/deltachat/turn":              "evil.example.org:3478:1:x",
	serverEntry + "comment":                            "not this one",
}

// startMetadataDovecot runs Dovecot with METADATA as a chatmail relay has it.
func startMetadataDovecot(t *testing.T, root *chroot.Root) (*dovecot.Server, *dict) {
	t.Helper()
	d, path := startDict(t, theirs)
	return startDovecot(t, dovecot.Options{Root: root, AttributeDict: "proxy:" + path + ":metadata"}), d
}

// TestMetadataOfDovecot runs sessions with METADATA that mailturn does not answer, with Dovecot directly and through mailturn.
func TestMetadataOfDovecot(t *testing.T) { eachDovecot(t, testMetadataOfDovecot) }

func testMetadataOfDovecot(t *testing.T, _ string, root *chroot.Root) {
	d, values := startMetadataDovecot(t, root)
	p := startProxy(t, d.Addr)
	write := loggedIn(func(w *scriptWriter) {
		w.command(`GETMETADATA "" (/shared/vendor/deltachat/irohrelay /shared/vendor/deltachat/maxsmtprecipients /shared/vendor/deltachat/nothing)`)
		w.command(`GETMETADATA "" /shared/vendor/deltachat/irohrelay`)
		w.command(`GETMETADATA (MAXSIZE 3) "" /shared/vendor/deltachat/irohrelay`)
		w.command(`SETMETADATA INBOX (/private/devicetoken "openpgp:abc")`)
		w.command(`SETMETADATA INBOX (/private/devicetoken {12+}` + "\r\nopenpgp:defg)")
		w.command(`SETMETADATA INBOX (/private/devicetoken {12}`+"\r\n", "openpgp:hijk)")
		w.command(`GETMETADATA INBOX /private/devicetoken`)
		w.command(`GETMETADATA {5}`+"\r\n", `INBOX (/private/devicetoken)`)
		w.command(`SETMETADATA "" (/private/comment "my own")`)
		w.command(`GETMETADATA "" (/private/comment)`)
		w.command(`SETMETADATA "" (/private/comment NIL)`)
		w.command(`GETMETADATA "" (/private/comment)`)
		w.command(`SETMETADATA Nowhere (/private/comment "x")`)
		w.command(`ENABLE METADATA`)
	})
	want := direct(d).record(t, write)
	if !strings.Contains(strings.Join(want, ""), "https://iroh.example.org") || !strings.Contains(strings.Join(want, ""), "openpgp:hijk") {
		t.Errorf("the dictionary does not work: %q", want)
	}
	for _, way := range []recorder{direct(d).through(p.dialTLS), direct(d).through(dialPlain(p.addr())).slowly()} {
		got := way.record(t, write)
		for i, response := range got {
			if response == "+ Ready for literal data\r\n" { // mailturn reads these commands before it passes them on
				got[i] = "+ OK\r\n"
			}
		}
		if diff := difference(want, got); diff != "" {
			t.Error(diff)
		}
		user := fmt.Sprintf("user%06d", users.Load())
		if value, _ := values.get(user + ":devicetoken"); value != "openpgp:hijk" {
			t.Errorf("the token of %s is %q in the dictionary", user, value)
		}
	}
}

// ours is the value of /shared/vendor/deltachat/turn that mailturn answers.
var ours = regexp.MustCompile(`^turn\.example\.org:3478:\d+:[A-Za-z0-9+/]{27}=$`)

// TestMetadataOfAnySize runs sessions with values of any size, and in forms that Dovecot accepts beyond the grammar, with Dovecot
// directly and through mailturn.
func TestMetadataOfAnySize(t *testing.T) {
	t.Parallel()
	d := startDovecot(t, dovecot.Options{AttributeDict: "file:%h/attributes"})
	p := startProxy(t, d.Addr)
	write := loggedIn(func(w *scriptWriter) {
		for _, size := range []int{1000, 65000, 66000, 1000000} {
			value := strings.Repeat("x", size)
			w.command(fmt.Sprintf(`SETMETADATA "" (/private/vendor/example/a {%d+}`+"\r\n%s)", size, value))
			w.command(fmt.Sprintf(`SETMETADATA "" (/private/vendor/example/b {%d+}`+"\r\n%s /private/vendor/example/c {%[1]d+}\r\n%[2]s)", size, value))
			w.command(`GETMETADATA "" (/private/vendor/example/a /private/vendor/example/b /private/vendor/example/c)`)
		}
		w.command("SETMETADATA Nowhere (/private/x {100000}\r\n", strings.Repeat("x", 100000)+")")
		w.command(`SETMETADATA "" (/shared NIL)`)
		w.command(`SETMETADATA "" ( /private/vendor/foo  "x" ) `)
		w.command(`SETMETADATA  ""  ("/private/x""y"/private/z "z")`)
		w.command(`SETMETADATA "" (/private/y atom)`)
		w.command(`SETMETADATA "" ()`)
		w.command(`GETMETADATA  ( MAXSIZE  100 )  ""  ( /private/vendor/foo  /private/x /private/y /private/z /shared ) `)
		w.command(`GETMETADATA Nowhere /private/x`)
	})
	want := direct(d).record(t, write)
	if diff := difference(want, direct(d).through(p.dialTLS).record(t, write)); diff != "" {
		t.Error(diff)
	}
}

// TestMetadataIsSetAsAWhole sets entries of mailturn after a value of which Dovecot has already received a part, and checks that
// nothing is stored.
func TestMetadataIsSetAsAWhole(t *testing.T) {
	d := startDovecot(t, dovecot.Options{AttributeDict: "file:%h/attributes"})
	value := strings.Repeat("x", 100000)
	got := direct(d).through(startProxy(t, d.Addr).dialTLS).record(t, loggedIn(func(w *scriptWriter) {
		w.command(fmt.Sprintf(`SETMETADATA "" (/private/x {%d+}`+"\r\n%s /shared/vendor/deltachat/turn {6+}\r\nb NOOP)", len(value), value))
		w.command(`GETMETADATA "" (/private/x)`)
	}))
	want := []string{"t002 NO [NOPERM] Entry is read-only\r\n", "* METADATA \"\" (/private/x NIL)\r\n"}
	if diff := difference(want, got[2:4]); diff != "" {
		t.Error(diff)
	}
}

// TestMetadataAdded checks that mailturn's entries exist, whether Dovecot has METADATA or not, and that commands for entries of
// both have one answer.
func TestMetadataAdded(t *testing.T) {
	t.Parallel()
	eachDovecot(t, testMetadataAdded)
}

func testMetadataAdded(t *testing.T, _ string, root *chroot.Root) {
	// As Delta Chat core asks.
	const get = `GETMETADATA "" (/shared/comment /shared/admin /shared/vendor/deltachat/irohrelay /shared/vendor/deltachat/turn /shared/vendor/deltachat/maxsmtprecipients)`
	write := func(user string) script {
		w := &scriptWriter{pipeline: 1}
		w.command("CAPABILITY")
		w.command("LOGIN " + user + " " + dovecot.Password)
		w.command("CAPABILITY")
		w.command(get)
		w.command(`SETMETADATA "" (/shared/vendor/deltachat/turn "mine")`)
		w.command(`GETMETADATA "" /shared/vendor/deltachat/turn`)
		w.command(`GETMETADATA (DEPTH infinity) "" /shared/vendor/deltachat`)
		w.alone("LOGOUT")
		return w.script
	}
	for _, tt := range []struct {
		name  string
		start func(t *testing.T) *dovecot.Server
		iroh  string
	}{
		{"METADATA off", func(t *testing.T) *dovecot.Server { return startDovecot(t, dovecot.Options{Root: root}) }, ""},
		{"METADATA on", func(t *testing.T) *dovecot.Server { d, _ := startMetadataDovecot(t, root); return d }, "https://iroh.example.org"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := tt.start(t)
			p := startProxy(t, d.Addr)
			for _, dial := range []dialer{p.dialTLS, p.dialStartTLS, dialPlain(p.addr())} {
				transcript := direct(d).through(dial).record(t, write)
				text := strings.Join(transcript, "")
				// After a CAPABILITY before the login, Dovecot sends its list before the tagged OK and not in it.
				before, after, _ := strings.Cut(text, "t001 OK ")
				if strings.Contains(before, "METADATA") {
					t.Errorf("METADATA before login: %q", before)
				}
				if n := len(regexp.MustCompile(`(?m)^\* CAPABILITY [^\r\n]* METADATA\b`).FindAllString(after, -1)); n != 2 {
					t.Errorf("METADATA is in %d capability lists from the login on, want 2: %q", n, after)
				}
				_, asked, _ := strings.Cut(text, "t003 OK ")
				answer := map[string]string{}
				for _, response := range transcript {
					if strings.HasPrefix(response, "t004 ") {
						break
					}
					parseMetadata(t, response, answer)
				}
				if !ours.MatchString(answer["/shared/vendor/deltachat/turn"]) {
					t.Errorf("got the TURN value %q", answer["/shared/vendor/deltachat/turn"])
				}
				if answer["/shared/comment"] != comment {
					t.Errorf("got the comment %q, want %q", answer["/shared/comment"], comment)
				}
				if got := answer["/shared/vendor/deltachat/irohrelay"]; got != tt.iroh {
					t.Errorf("got Dovecot's entry %q, want %q", got, tt.iroh)
				}
				if strings.Contains(asked, "evil") || strings.Contains(asked, "not this one") || strings.Contains(asked, `"mine"`) {
					t.Errorf("a value of Dovecot replaces ours: %q", asked)
				}
				if !strings.Contains(asked, "\r\nt005 NO ") {
					t.Errorf("our entry could be set: %q", asked)
				}
			}
		})
	}
}

var (
	metadataResponse = regexp.MustCompile(`(?s)^\* METADATA "" \((.*)\)\r\n$`)
	metadataEntry    = regexp.MustCompile(`(?s)^(/[^ ]+) (NIL|"([^"\\]*)"|\{(\d+)\}\r\n)( |$)?`)
)

// parseMetadata adds the entries of a METADATA response for the server to entries, as Delta Chat reads them.
func parseMetadata(t *testing.T, response string, entries map[string]string) {
	t.Helper()
	m := metadataResponse.FindStringSubmatch(response)
	if m == nil {
		return
	}
	for list := m[1]; list != ""; {
		e := metadataEntry.FindStringSubmatch(list)
		if e == nil {
			t.Errorf("cannot read %q in %q", list, response)
			return
		}
		list = list[len(e[0]):]
		value := e[3]
		if e[4] != "" {
			var size int
			fmt.Sscan(e[4], &size)
			value, list = list[:size], strings.TrimPrefix(list[size:], " ")
		}
		if _, twice := entries[e[1]]; twice {
			t.Errorf("%s is answered twice: %q", e[1], response)
		}
		entries[e[1]] = value
	}
}
