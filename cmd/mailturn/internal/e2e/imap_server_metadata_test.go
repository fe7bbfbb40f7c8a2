package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

// issued is mailturn's value of the entry within a response, its user name and its password.
var issued = regexp.MustCompile(`/shared/vendor/deltachat/turn (?:"|\{\d+\}\r\n)turn\.example\.org:3478:(\d+):([A-Za-z0-9+/]{27}=)`)

func checkMetadata(t *testing.T, s imapServer, p *proxy) string {
	user := s.user()
	run := func(dial dialer, commands ...string) []string {
		t.Helper()
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		w := &scriptWriter{pipeline: 1}
		for _, command := range commands {
			w.command(command)
		}
		w.alone("LOGOUT")
		transcript, _, err := (&session{conn: conn, limit: stepLimit}).run(w.script)
		if err != nil {
			t.Fatalf("%v after %q", err, transcript)
		}
		return transcript
	}
	login := "LOGIN " + user + " " + dovecot.Password
	commands := []string{`GETMETADATA "" ` + turnEntry, login, "CAPABILITY", `GETMETADATA "" (/shared/comment ` + turnEntry + ")", `SETMETADATA "" (` + turnEntry + ` "mine")`,
		`SETMETADATA INBOX (/private/comment "my own")`, "GETMETADATA INBOX /private/comment"}
	got := strings.Join(run(p.dialTLS, commands...), "")
	before, after, _ := strings.Cut(got, "t002 ")
	if issued.MatchString(before) || !regexp.MustCompile(`(?m)^t001 (BAD|NO) `).MatchString(before) {
		t.Errorf("before login: %q", before)
	}
	m := issued.FindAllStringSubmatch(after, -1)
	if len(m) != 1 || mint(m[0][1]) != m[0][2] || strings.Count(after, turnEntry) != 1 {
		t.Errorf("mailturn's entry is answered %q", after)
	}
	for _, want := range []string{comment, "\r\nt005 NO "} {
		if !strings.Contains(after, want) {
			t.Errorf("no %q in %q", want, after)
		}
	}
	if n := len(regexp.MustCompile(`(?m)^\* CAPABILITY [^\r\n]* METADATA\b`).FindAllString(after, -1)); n == 0 {
		t.Errorf("METADATA is not among the capabilities: %q", after)
	}
	alone := strings.Join(run(s.dialDirect, login, commands[3], commands[6]), "")
	if issued.MatchString(alone) || strings.Contains(alone, comment) {
		t.Errorf("the server has mailturn's entries itself: %q", alone)
	}
	for text, where := range map[string]string{after: "through mailturn", alone: "directly"} {
		if strings.Contains(text, `my own`) != s.metadata {
			t.Errorf("%s the server's own entry is answered %q", where, text)
		}
	}
	if s.metadata {
		return "its own METADATA passes"
	}
	return "has no METADATA itself"
}
