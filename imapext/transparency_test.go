package imapext

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestTransparency passes random sessions without a command that the Filter answers, and checks that each side receives what the
// other has sent, byte for byte, except for METADATA in capability lists. It catches a filter that rewrites by text, inserts at
// read boundaries, edits or drops bytes of literals, or swallows a "+".
func TestTransparency(t *testing.T) {
	for seed := range uint64(300) {
		session := randomSession{Rand: rand.New(rand.NewPCG(seed, 1))}
		w := newWire(Options{Entries: testEntries, TLS: true}, cutRandomly(seed))
		greeting := "* PREAUTH [CAPABILITY IMAP4rev1 LITERAL+] hi\r\n"
		if err := w.fromBackend([]byte(greeting)); err != nil {
			t.Fatal(err)
		}
		var wantBackend, wantClient bytes.Buffer
		wantClient.WriteString("* PREAUTH [CAPABILITY IMAP4rev1 LITERAL+ METADATA] hi\r\n")
		for i := range 50 {
			commands, answers := session.command(i)
			for _, command := range commands {
				wantBackend.WriteString(command)
				if err := w.fromClient([]byte(command)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(w.backend.Bytes(), wantBackend.Bytes()) {
					t.Fatalf("seed %d: backend got\n%q, want\n%q", seed, w.backend.Bytes(), wantBackend.Bytes())
				}
				response := session.responses()
				if len(answers) > 0 {
					response += answers[0]
					answers = answers[1:]
				}
				wantClient.WriteString(strings.ReplaceAll(response, "\x00", " METADATA"))
				if err := w.fromBackend([]byte(strings.ReplaceAll(response, "\x00", ""))); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(w.client.Bytes(), wantClient.Bytes()) {
					t.Fatalf("seed %d: client got\n%q, want\n%q", seed, w.client.Bytes(), wantClient.Bytes())
				}
			}
		}
	}
}

// randomSession returns commands and responses. In responses, NUL marks where METADATA is expected to be added.
type randomSession struct{ *rand.Rand }

// octets returns n bytes that are likely to be mistaken for protocol elements.
func (r randomSession) octets(n int) string {
	var b strings.Builder
	for b.Len() < n {
		switch r.IntN(8) {
		case 0:
			b.WriteString("\r\na1 OK [CAPABILITY IMAP4rev1] done\r\n")
		case 1:
			b.WriteString("\r\n* CAPABILITY IMAP4rev1 STARTTLS\r\n")
		case 2:
			b.WriteString("\r\na2 GETMETADATA \"\" /shared/comment\r\n")
		case 3:
			b.WriteString(" {5}\r\n")
		case 4:
			b.WriteString("\r\n+ \r\n* METADATA \"\" (/shared/comment \"x\")\r\n")
		default:
			b.WriteByte(byte(1 + r.IntN(255)))
		}
	}
	return b.String()[:n]
}

func (r randomSession) end() string {
	if r.IntN(4) == 0 {
		return "\n"
	}
	return "\r\n"
}

func (r randomSession) literal() string {
	size := r.IntN(200)
	return fmt.Sprintf("{%d}%s%s", size, r.end(), r.octets(size))
}

// command returns a command in the packets in which it may be sent, and what answers each.
func (r randomSession) command(i int) (packets, answers []string) {
	tag := fmt.Sprintf("a%d", i)
	ok := tag + []string{" OK done", " NO [TRYCREATE] {3}", " BAD [CAPABILITY IMAP4rev1 LITERAL+\x00] x", " OK"}[r.IntN(4)] + r.end()
	switch r.IntN(6) {
	case 0:
		size := r.IntN(300)
		return []string{
			fmt.Sprintf("%s APPEND {5}%s", tag, r.end()), fmt.Sprintf("Dr\r\nt (\\Seen) {%d}%s", size, r.end()), r.octets(size) + r.end(),
		}, []string{"+ go" + r.end(), "+ " + r.end(), ok}
	case 1:
		size := r.IntN(300)
		return []string{fmt.Sprintf("%s APPEND x ~{%d}%s", tag, size, r.end()), r.octets(size) + r.end()}, []string{"+ go" + r.end(), ok}
	case 2:
		return []string{tag + " IDLE" + r.end(), "DONE" + r.end()}, []string{"+ idling\r\n* 3 EXISTS\r\n", ok}
	case 3:
		return []string{tag + " SELECT \"a \\\"{5}\\\" GETMETADATA {3+}\"" + r.end()}, []string{ok}
	case 4:
		return []string{tag + " UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (Subject)])" + r.end()}, []string{ok}
	default:
		return []string{tag + " CAPABILITY" + r.end()}, []string{"* CAPABILITY IMAP4rev1 LITERAL+\x00" + r.end() + ok}
	}
}

// responses returns some untagged responses.
func (r randomSession) responses() string {
	var b strings.Builder
	for range r.IntN(4) {
		switch r.IntN(6) {
		case 0:
			fmt.Fprintf(&b, "* %d FETCH (UID %d BODY[] %s FLAGS () BINARY[1] ~%s)%s", r.IntN(9), r.IntN(9), r.literal(), r.literal(), r.end())
		case 1:
			fmt.Fprintf(&b, "* LIST () \"/\" %s%s", r.literal(), r.end())
		case 2:
			fmt.Fprintf(&b, "* OK [ALERT] CAPABILITY {%d}%s", r.IntN(9), r.end())
		case 3:
			fmt.Fprintf(&b, "* %d EXISTS%s", r.IntN(9), r.end())
		case 4:
			fmt.Fprintf(&b, "* METADATA INBOX (/shared/comment %s)%s", r.literal(), r.end())
		default:
			fmt.Fprintf(&b, "* NO [CAPABILITY IMAP4rev1 LITERAL+\x00] {%d}%s", r.IntN(9), r.end())
		}
	}
	return b.String()
}

func TestAccount(t *testing.T) {
	long := strings.Repeat("x", maxAccount)
	tests := []struct {
		name  string
		login []string // packets, each answered by "+", the last by OK
		want  string
	}{
		{"atom", []string{"a LOGIN alice@example.org secret\r\n"}, "alice@example.org"},
		{"quoted", []string{`a LOGIN "alice \"\\ x" "secret"` + "\r\n"}, `alice "\ x`},
		{"literal", []string{"a LOGIN {5}\r\n", "ali e secret\r\n"}, "ali e"},
		{"literal and literal", []string{"a LOGIN {5}\r\n", "alice {6}\r\n", "secret\r\n"}, "alice"},
		{"empty", []string{`a LOGIN "" secret` + "\r\n"}, ""},
		{"longest", []string{"a LOGIN " + long + " secret\r\n"}, long},
		{"too long", []string{"a LOGIN " + long + "x secret\r\n"}, ""},
		{"plain", []string{"a AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==\r\n"}, "alice"},
		{"plain without initial response", []string{"a AUTHENTICATE PLAIN\r\n", "AGFsaWNlAHNlY3JldA==\n"}, "alice"},
		{"plain with empty initial response", []string{"a AUTHENTICATE PLAIN =\r\n", "AGFsaWNlAHNlY3JldA==\r\n"}, "alice"},
		{"authorization identity", []string{"a AUTHENTICATE plain Ym9iAGFsaWNlAHNlY3JldA==\r\n"}, "alice"},
		{"authorization identity of 300 bytes", []string{"a AUTHENTICATE plain " +
			base64.StdEncoding.EncodeToString([]byte(strings.Repeat("b", 300)+"\x00alice\x00secret")) + "\r\n"}, "alice"},
		{"not base64", []string{"a AUTHENTICATE PLAIN AG!saWNlAHNlY3JldA==\r\n"}, ""},
		{"other mechanism", []string{"a AUTHENTICATE PLAINER AGFsaWNlAHNlY3JldA==\r\n"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for seed := range uint64(10) {
				w := newWire(Options{TLS: true}, cutRandomly(seed))
				if err := w.fromBackend([]byte("* OK hi\r\n")); err != nil {
					t.Fatal(err)
				}
				for i, packet := range test.login {
					if err := w.fromClient([]byte(packet)); err != nil {
						t.Fatal(err)
					}
					if name := string(w.filter.client.account.name); strings.Contains(name, "secret") {
						t.Errorf("keeps %q", name)
					}
					answer := "+ \r\n"
					if i == len(test.login)-1 {
						answer = "a OK in\r\n"
					}
					if err := w.fromBackend([]byte(answer)); err != nil {
						t.Fatal(err)
					}
				}
				if got := w.filter.Session().Account; got != test.want {
					t.Fatalf("account %q, want %q", got, test.want)
				}
				if a := w.filter.client.account; a.name != nil || a.quantum != [4]byte{} {
					t.Errorf("keeps %+v", a)
				}
			}
		})
	}
}

// TestLineEndPassesWhole cuts commands before the last bytes of a line, and checks that the backend does not receive enough of it
// to answer, as Dovecot does after the "}" of an announcement and after the CR of a command without arguments.
func TestLineEndPassesWhole(t *testing.T) {
	for _, line := range []string{
		"a NOOP\r\n",
		"a IDLE\r\n",
		"a LOGIN {5}\r\n",
		"a LOGIN {5}\n",
		"a LOGIN {5+}\r\n",
		"a APPEND Sent ~{5}\r\n",
		"a FOO {5\r\n",
	} {
		for cut := 1; cut < len(line); cut++ {
			w := newWire(Options{TLS: true}, whole)
			if err := w.fromBackend([]byte("* OK [CAPABILITY IMAP4rev1 LITERAL+] hi\r\n")); err != nil {
				t.Fatal(err)
			}
			if err := w.fromClient([]byte(line[:cut])); err != nil {
				t.Fatal(err)
			}
			if got := w.backend.String(); strings.HasSuffix(got, "{5}") || strings.HasSuffix(got, "\r") {
				t.Errorf("%q: the backend got %q", line[:cut], got)
			}
			if err := w.fromClient([]byte(line[cut:])); err != nil {
				t.Fatal(err)
			}
			want := strings.Replace(line, "+", "", 1)
			if got := w.backend.String(); got != want {
				t.Errorf("%q, %q: the backend got %q, want %q", line[:cut], line[cut:], got, want)
			}
		}
	}
}
