package dictproto

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

const (
	guid   = "54824d17954b016bac1c000083ecc375"
	server = "shared/" + guid + "/vendor/vendor.dovecot/pvt/server/"
	turn   = "turn.example.org:3478:1758650868:nkfvRIGUcx0N/jq/StNLPajpLZE="
	turns  = "turn.example.org:5349:1758650868:nkfvRIGUcx0N/jq/StNLPajpLZE="
)

func newSession(hasNext bool) *Session {
	return &Session{HasNext: hasNext, Entries: func(string) []Entry {
		return []Entry{{"vendor/deltachat/turn", turn}, {"vendor/deltachat/turns", turns}}
	}}
}

// TestDovecot plays recorded sessions of the real Dovecot: see the file.
func TestDovecot(t *testing.T) {
	text, err := os.ReadFile("testdata/dovecot-2.3.19.1.txt")
	if err != nil {
		t.Fatal(err)
	}
	sessions := 0
	for _, version := range []string{"3\t2", "4\t0"} { // version 4 is the same
		var s *Session
		var answer *Answer
		var toNext, toClient []string
		lines := func(b []byte) []string { return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") }
		for i, line := range strings.Split(string(text), "\n") {
			if line == "" || line[0] == '#' {
				continue
			}
			what, err := strconv.Unquote(line[2:])
			if err != nil {
				t.Fatalf("line %d: %v", i+1, err)
			}
			expect := func(got *[]string) {
				t.Helper()
				if len(*got) == 0 || (*got)[0] != what {
					t.Fatalf("line %d: got %q, want %q", i+1, *got, what)
				}
				*got = (*got)[1:]
			}
			switch line[0] {
			case 'C':
				if len(toNext) > 0 || len(toClient) > 0 {
					t.Fatalf("line %d: before it comes %q and %q", i+1, toNext, toClient)
				}
				if what[0] == 'H' {
					s = newSession(true)
					what = strings.Replace(what, "3\t2", version, 1)
					sessions++
				}
				a, err := s.Next(what)
				if err != nil {
					t.Fatalf("line %d: %v", i+1, err)
				}
				if len(a.Forward) > 0 {
					toNext = lines(a.Forward)
				}
				if len(a.Reply) > 0 {
					toClient = lines(a.Reply)
				}
				s.Sent(a)
				answer = a.Answer
			case 'N':
				expect(&toNext)
			case 'A':
				if len(toClient) > 0 {
					t.Fatalf("line %d: before it comes %q", i+1, toClient)
				}
				reply, done, err := answer.Next(what)
				if err != nil {
					t.Fatalf("line %d: %v", i+1, err)
				}
				if len(reply) > 0 {
					toClient = lines(reply)
				}
				if done {
					answer = nil
				}
			case 'S':
				expect(&toClient)
			}
		}
		if len(toNext) > 0 || len(toClient) > 0 || answer != nil {
			t.Errorf("at the end: %q, %q, %v", toNext, toClient, answer)
		}
	}
	if sessions != 18 {
		t.Errorf("%d sessions, want 18", sessions)
	}
}

// say passes lines to a session after the hello and returns the last action.
func say(t *testing.T, s *Session, lines ...string) Action {
	t.Helper()
	var a Action
	for _, line := range append([]string{"H3\t2\t0\t\tmetadata"}, lines...) {
		var err error
		if a, err = s.Next(line); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		s.Sent(a)
	}
	return a
}

func TestWithoutNext(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		want  string
	}{
		{[]string{"L" + server + "vendor/deltachat/turn\talice"}, "O" + turn + "\n"},
		{[]string{"L" + server + "vendor/deltachat/turns\talice"}, "O" + turns + "\n"},
		{[]string{"L" + server + "vendor/deltachat/turn"}, "O" + turn + "\n"},
		{[]string{"Lshared/other-mailbox/vendor/vendor.dovecot/pvt/server/vendor/deltachat/turn\tbob"}, "O" + turn + "\n"},
		{[]string{"L" + server + "vendor/deltachat/turning\talice"}, "N\n"},
		{[]string{"Lshared/" + guid + "/vendor/deltachat/turn\talice"}, "N\n"}, // of a mailbox
		{[]string{"Lpriv/" + guid + "/vendor/vendor.dovecot/pvt/server/vendor/deltachat/turn\talice"}, "N\n"},
		{[]string{"Lpriv/" + guid + "/devicetoken\talice"}, "N\n"},
		{[]string{"L"}, "N\n"},
		{[]string{"I9\t0\tpriv/" + guid + "/\talice"}, "\n"},
		{[]string{"I1\t0\t" + server + "\talice"},
			"O" + server + "vendor/deltachat/turn\t" + turn + "\nO" + server + "vendor/deltachat/turns\t" + turns + "\n\n"},
		{[]string{"I9\t0\tshared/" + guid + "/\talice"}, "O" + server + "vendor/deltachat/turn\t\nO" + server + "vendor/deltachat/turns\t\n\n"},
		{[]string{"I9\t1\t" + server + "\talice"}, "O" + server + "vendor/deltachat/turn\t\n\n"},
		{[]string{"I8\t0\t" + server + "\talice"}, "\n"}, // not below folders
		{[]string{"I8\t0\t" + server + "vendor/deltachat/\talice"}, "O" + server + "vendor/deltachat/turn\t\nO" + server + "vendor/deltachat/turns\t\n\n"},
		{[]string{"I24\t0\t" + server + "vendor/deltachat/turn\talice"}, "O" + server + "vendor/deltachat/turn\t\n\n"},
		{[]string{"B1\talice", "C1"}, "O1\n"},
		{[]string{"B1\talice", "S1\tpriv/x/y\tz", "C1"}, "F1\tno dict server is configured to keep this value\n"},
		{[]string{"B1\talice", "U1\t" + server + "vendor/deltachat/turn", "C1"}, "F1\tTURN credentials are made by the server and cannot be set\n"},
		{[]string{"B1\talice", "S1\tpriv/x/y\tz", "D1"}, ""},
		{[]string{"B1\talice", "T1\t1700000000\t0", "V1\t1", "C1"}, "O1\n"},
		{[]string{"B1\talice", "S1\tpriv/x/y\tz", "R1", "B1\talice", "C1"}, "O1\n"},
		{[]string{"B1\talice", "B2\talice", "S1\tpriv/x/y\tz", "C2"}, "O2\n"},
	} {
		if a := say(t, newSession(false), tt.lines...); string(a.Reply) != tt.want || len(a.Forward) > 0 || a.Answer != nil {
			t.Errorf("%q:\n got %q, forwards %q\nwant %q", tt.lines, a.Reply, a.Forward, tt.want)
		}
	}
}

func TestNoTLS(t *testing.T) {
	s := newSession(true)
	s.Entries = func(string) []Entry { return []Entry{{"vendor/deltachat/turn", turn}, {"vendor/deltachat/turns", ""}} }
	if a := say(t, s, "L"+server+"vendor/deltachat/turns\talice"); string(a.Reply) != "N\n" || len(a.Forward) > 0 {
		t.Errorf("got %q, forwards %q: a value there could only be one that a user has set", a.Reply, a.Forward)
	}
}

// TestUser checks that entries are those of the user that a request names, or else of the hello.
func TestUser(t *testing.T) {
	const path = "shared/54824d17954b016bac1c000083ecc375/vendor/vendor.dovecot/pvt/server/"
	s := &Session{Entries: func(user string) []Entry { return []Entry{{"vendor/deltachat/turn", "of " + user}} }}
	for _, tt := range []struct{ line, want string }{
		{"H3\t2\t0\tcarol\tmetadata", ""},
		{"L" + path + "vendor/deltachat/turn\talice", "Oof alice\n"},
		{"L" + path + "vendor/deltachat/turn\t", "Oof carol\n"},
		{"L" + path + "vendor/deltachat/turn", "Oof carol\n"},
		{"I1\t0\t" + path + "\tbob", "O" + path + "vendor/deltachat/turn\tof bob\n\n"},
		{"I1\t0\t" + path, "O" + path + "vendor/deltachat/turn\tof carol\n\n"},
	} {
		action, err := s.Next(tt.line)
		if err != nil || string(action.Reply) != tt.want {
			t.Errorf("%q: got %q, %v, want %q", tt.line, action.Reply, err, tt.want)
		}
	}
}

// TestNextGone checks that TURN entries are answered, and other requests fail, if the next server is down.
func TestNextGone(t *testing.T) {
	s := newSession(true)
	a := say(t, s, "Lpriv/x/devicetoken\talice")
	if string(a.Unreached) != "Fthe next dict server does not answer\n" || string(a.Lost) != "Fthe next dict server went away\n" || !a.Repeatable {
		t.Errorf("look-up: %+v", a)
	}
	if a, _ := s.Next("L" + server + "vendor/deltachat/turn\talice"); string(a.Reply) != "O"+turn+"\n" {
		t.Errorf("our own: %+v", a)
	}

	// The next server could not be sent the beginning of the transaction.
	if a, err := s.Next("B1\talice"); err != nil || !a.Repeatable {
		t.Errorf("begin: %+v, %v", a, err)
	}
	if a, _ := s.Next("S1\tpriv/x/y\tz"); len(a.Forward) > 0 {
		t.Errorf("a change goes to a server that does not know the transaction: %q", a.Forward)
	}
	if a, _ := s.Next("C1"); string(a.Reply) != "F1\tthe next dict server does not answer\n" || len(a.Forward) > 0 {
		t.Errorf("commit: %+v", a)
	}

	// The next server disconnected in the middle.
	if a, _ := s.Next("B2\talice"); len(a.Forward) > 0 {
		s.Sent(a)
	}
	s.Lost()
	if a, _ := s.Next("C2"); string(a.Reply) != "F2\tthe next dict server went away\n" || len(a.Forward) > 0 {
		t.Errorf("commit: %+v", a)
	}

	// The next server disconnected after the commit.
	if a, _ := s.Next("B3\talice"); len(a.Forward) > 0 {
		s.Sent(a)
	}
	if a, _ := s.Next("C3"); string(a.Lost) != "W3\tthe next dict server went away\n" || string(a.Unreached) != "F3\tthe next dict server does not answer\n" || a.Repeatable {
		t.Errorf("commit: %+v", a)
	}
}

// TestAsyncAnswers checks the answers of a dict server that names them, as Dovecot's own does.
func TestAsyncAnswers(t *testing.T) {
	for _, tt := range []struct {
		request string
		answers []string
		want    string
	}{
		{"Lpriv/x/y\talice", []string{"*1", "+1\tOvalue\t1700000000\t1\t1700000000\t2"}, "Ovalue\t1700000000\t1\t1700000000\t2\n"},
		{"Lpriv/x/y\talice", []string{"Mone\x01ttwo"}, "Mone\x01ttwo\n"},
		{"Lpriv/x/y\talice", []string{"*7", "+7\tFbroken"}, "Fbroken\n"},
		{"I1\t0\tpriv/x/\talice", []string{"*2", "+2\tOpriv/x/y\tz", "+2\t\t1700000000\t1\t1700000000\t2"}, "Opriv/x/y\tz\n\t1700000000\t1\t1700000000\t2\n"},
		{"I1\t0\tpriv/x/\talice", []string{"Opriv/x/y\tz", "Fbroken"}, "Opriv/x/y\tz\nFbroken\n"},
		{"I1\t1\tshared/" + guid + "/\talice", []string{"Oshared/" + guid + "/a\t1", "Oshared/" + guid + "/b\t1", ""}, "Oshared/" + guid + "/a\t1\n\n"},
	} {
		a := say(t, newSession(true), tt.request)
		var got string
		for i, line := range tt.answers {
			reply, done, err := a.Answer.Next(line)
			if err != nil || done != (i == len(tt.answers)-1) {
				t.Errorf("%q: %q: done %v, %v", tt.request, line, done, err)
			}
			got += string(reply)
		}
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.request, got, tt.want)
		}
	}
	for _, bad := range []string{"", "+1"} {
		if _, _, err := say(t, newSession(true), "Lpriv/x/y\talice").Answer.Next(bad); err == nil {
			t.Errorf("%q is taken for an answer", bad)
		}
	}
	// Nobody waits for the result of D.
	a := say(t, newSession(true), "B1\talice", "D1")
	if reply, done, err := a.Answer.Next("O1"); len(reply) > 0 || !done || err != nil || string(a.Forward) != "C1\n" || len(a.Lost)+len(a.Unreached) > 0 {
		t.Errorf("D: %q, %v, %v, %+v", reply, done, err, a)
	}
}

func TestMalformed(t *testing.T) {
	hello := "H3\t2\t0\t\tmetadata"
	many := []string{hello}
	for i := range maxTransactions + 1 {
		many = append(many, fmt.Sprintf("B%d\talice", i))
	}
	for _, lines := range [][]string{
		{""},
		{"Lpriv/x/y\talice"}, // before hello
		{"H"},
		{"H3\t2"},
		{hello, hello},
		{hello, ""},
		{hello, "Xpriv"},
		{hello, "\x00"},
		{hello, "I"},
		{hello, "I0\t0"},
		{hello, "Ix\t0\tpath\talice"},
		{hello, "I0\t-1\tpath\talice"},
		{hello, "B"},
		{hello, "Bx\talice"},
		{hello, "B4294967296\talice"},
		{hello, "B-1\talice"},
		{hello, "B1\talice", "B1\talice"},
		{hello, "C1"},
		{hello, "D1"},
		{hello, "R1"},
		{hello, "T1\t0\t0"},
		{hello, "S1\tpriv/x/y\tz"},
		{hello, "B1\talice", "S1"},
		{hello, "B1\talice", "C1", "C1"},
		{hello, "B1\talice", "S2\tpriv/x/y\tz"},
		many,
	} {
		s := newSession(true)
		var err error
		for i, line := range lines {
			if _, err = s.Next(line); err != nil && i < len(lines)-1 {
				t.Errorf("%q: %v", lines[:i+1], err)
			}
		}
		if err == nil {
			t.Errorf("%.200q: no error", lines)
		}
	}
	for _, version := range []string{"1", "2", "5", "33", "", "three"} {
		if _, err := newSession(true).Next("H" + version + "\t2\t0\t\tmetadata"); !errors.Is(err, ErrVersion) {
			t.Errorf("version %q: %v", version, err)
		}
	}
}

func TestEscape(t *testing.T) {
	for plain, escaped := range map[string]string{
		"":           "",
		"a b":        "a b",
		"a\tb\nc\rd": "a\x01tb\x01nc\x01rd",
		"\x00\x01":   "\x010\x011",
		"\x01t":      "\x011t",
		"naïve\xff":  "naïve\xff",
	} {
		if got := Escape(plain); got != escaped {
			t.Errorf("%q: got %q, want %q", plain, got, escaped)
		}
		if got := Unescape(escaped); got != plain {
			t.Errorf("%q: got %q, want %q", escaped, got, plain)
		}
	}
	if got := Unescape("a\x01xb\x01"); got != "axb" {
		t.Errorf("got %q", got)
	}
}

// FuzzSession checks that, whatever a client and a next server send, the output is whole lines, and our own keys are not changed.
func FuzzSession(f *testing.F) {
	text, err := os.ReadFile("testdata/dovecot-2.3.19.1.txt")
	if err != nil {
		f.Fatal(err)
	}
	var client []string
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "C "); ok {
			what, _ := strconv.Unquote(strings.TrimSpace(rest))
			if what[0] == 'H' && client != nil {
				f.Add(strings.Join(client, "\n"), "O1\n\nN", true)
				client = nil
			}
			client = append(client, what)
		}
	}
	f.Add("H4\t0\t0\t\tx\nI1\t3\tshared/a/\tx\nB1\tx\nD1", "*1\n+1\tOshared/a/b\tc\n+1\t\n+1\tO1", false)
	f.Fuzz(func(t *testing.T, client, next string, hasNext bool) {
		s := newSession(hasNext)
		answers := strings.Split(next, "\n")
		whole := func(b []byte) {
			if len(b) > 0 && b[len(b)-1] != '\n' {
				t.Fatalf("%q is no whole line", b)
			}
		}
		for line := range strings.SplitSeq(client, "\n") {
			a, err := s.Next(line)
			if err != nil {
				return
			}
			whole(a.Reply)
			whole(a.Forward)
			whole(a.Lost)
			whole(a.Unreached)
			if !hasNext && (len(a.Forward) > 0 || a.Answer != nil) {
				t.Fatalf("%q goes to a next server that there is not", line)
			}
			if len(a.Forward) > 0 && strings.ContainsRune("SUAP", rune(a.Forward[0])) {
				if _, ours := s.find(split(string(a.Forward[1 : len(a.Forward)-1]))[1], ""); ours {
					t.Fatalf("%q goes to the next server", a.Forward)
				}
			}
			s.Sent(a)
			for done := a.Answer == nil; !done && len(answers) > 0; {
				reply, finished, err := a.Answer.Next(answers[0])
				answers, done = answers[1:], finished
				if err != nil {
					s.Lost()
					break
				}
				whole(reply)
			}
		}
	})
}
