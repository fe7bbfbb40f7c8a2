package imapext

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// modelBackend is a backend that answers everything, and treats malformed or refused commands in one of the ways in which servers
// differ. It records what it reads as commands.
type modelBackend struct {
	unread   []byte
	commands []string // names

	// refuses makes it refuse commands that announce a literal, and leave the literal in the stream, as imapserver of go-imap does.
	refuses bool
	// anywhere makes it accept an announcement at a line's end even where no argument begins.
	anywhere bool
	// cuts makes it read what follows the first 21,847 bytes of a line that continues AUTHENTICATE as a command, as Cyrus does.
	cuts bool
	// splits makes it begin a command within a tag, as Courier does.
	splits bool
	// spans makes it read a quoted string across line ends, as imapserver does.
	spans bool
	// sloppy makes it accept an announcement with spaces after it, as imapserver does, request the literal of one within a line
	// before it refuses that, as Dovecot does, and read the literal of a line that continues IDLE or AUTHENTICATE, as Cyrus does
	// after DONE.
	sloppy bool
	// returns makes it accept a CR alone as a line end.
	returns    bool
	loginFails bool

	tag, name string // of the command in which a literal has been granted, or of AUTHENTICATE or IDLE
	literal   int
	exchange  bool
}

// read takes bytes and returns what the backend answers, one response after the other.
func (m *modelBackend) read(b []byte) (answers []byte) {
	m.unread = append(m.unread, b...)
	for {
		if m.literal > 0 {
			n := min(m.literal, len(m.unread))
			m.unread = m.unread[n:]
			m.literal -= n
			if m.literal > 0 {
				return answers
			}
		}
		var line string
		if end := m.lineEnd(); m.cuts && m.exchange && (end > cyrusLine || end < 0 && len(m.unread) > cyrusLine) {
			line, m.unread = string(m.unread[:cyrusLine]), m.unread[cyrusLine:]
		} else if end < 0 {
			return answers
		} else {
			line, m.unread = string(m.unread[:end]), m.unread[end+1:]
		}
		answers = append(answers, m.line(strings.TrimSuffix(line, "\r"))...)
	}
}

// cyrusLine is how much Cyrus 3.6 reads of a line that continues AUTHENTICATE.
const cyrusLine = 21847

func (m *modelBackend) lineEnd() int {
	quoted, escaped := false, false
	for i, c := range m.unread {
		switch {
		case c == '\n' && !(quoted && m.spans):
			return i
		case m.returns && c == '\r' && i+1 < len(m.unread) && m.unread[i+1] != '\n':
			return i
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case quoted && c == '"':
			quoted = false
		case c == '"' && i > 0 && (m.unread[i-1] == ' ' || m.unread[i-1] == '('):
			quoted = !m.exchange
		}
	}
	return -1
}

func (m *modelBackend) line(line string) string {
	if m.exchange {
		m.exchange = false
		if _, digits, ok := strings.Cut(strings.TrimSuffix(line, "+}"), "{"); ok && m.sloppy {
			m.literal, _ = strconv.Atoi(digits)
		}
		return m.finish()
	}
	if _, rest, ok := strings.Cut(line, "]"); ok && m.tag == "" && m.splits && !strings.ContainsAny(line[:len(line)-len(rest)], " ") {
		line = "x " + rest
	}
	if m.tag == "" {
		words := strings.Split(line, " ")
		if len(words) < 2 || words[0] == "" || words[1] == "" || strings.ContainsAny(words[0], `+*%(){"\`) {
			m.commands = append(m.commands, fmt.Sprintf("no command: %q", line))
			return "* BAD\r\n"
		}
		m.tag, m.name = words[0], strings.ToUpper(words[1])
		m.commands = append(m.commands, m.name)
	}
	size, sync, ok := m.announced(line)
	switch {
	case m.sloppy && announcementWithin.MatchString(line):
		tag := m.tag
		m.tag = ""
		return "+ go\r\n" + tag + " BAD no\r\n"
	case ok && m.refuses:
		tag := m.tag
		m.tag = ""
		return tag + " BAD no\r\n"
	case ok:
		m.literal = size
		if sync {
			return "+ go\r\n"
		}
		return ""
	case m.name == "IDLE" || m.name == "AUTHENTICATE":
		m.exchange = true
		return "+ \r\n"
	}
	return m.finish()
}

// announcementWithin matches lines without quoted strings.
var announcementWithin = regexp.MustCompile(`^[^"]*\{[0-9]+\} *[^" ]+[^"]*$`)

// announced returns the literal that line announces. Literals larger than a test sends are never granted.
func (m *modelBackend) announced(line string) (size int, sync, ok bool) {
	if m.sloppy {
		line = strings.TrimRight(line, " ")
	}
	open := strings.LastIndexByte(line, '{')
	if open < 1 || !strings.HasSuffix(line, "}") {
		return 0, false, false
	}
	start := strings.TrimSuffix(line[:open], "~")
	if start == "" || !m.anywhere && start[len(start)-1] != ' ' && start[len(start)-1] != '(' {
		return 0, false, false
	}
	digits, nonSync := strings.CutSuffix(line[open+1:len(line)-1], "+")
	size, err := strconv.Atoi(digits)
	return size, !nonSync, err == nil && size >= 0 && digits[0] != '+' && digits[0] != '-'
}

func (m *modelBackend) finish() string {
	tag := m.tag
	m.tag = ""
	switch m.name {
	case "CAPABILITY":
		return "* CAPABILITY IMAP4rev1\r\n" + tag + " OK done\r\n"
	case "LOGIN", "AUTHENTICATE":
		if m.loginFails {
			return tag + " NO no\r\n"
		}
	}
	return tag + " OK done\r\n"
}

// FuzzSmuggling checks that, whatever the client sends, the backend reads as a command only what the Filter has read as one: no
// command that the Filter answers itself reaches it, and it finds nothing but commands where it expects one.
func FuzzSmuggling(f *testing.F) {
	for _, seed := range []string{
		"a NOOP\r\nb LOGIN x y\r\nc GETMETADATA \"\" /shared/comment\r\n",
		"a FOO {37+}\r\nb GETMETADATA \"\" /shared/comment\r\n\xfe \r\nb NOOP\r\n",
		"a FOO x{22+}\r\nb STARTTLS {3}\r\nc x\r\n\r\nd NOOP\r\n",
		"a FOO \"x\r\nb COMPRESS DEFLATE\r\nc X \"\r\n",
		"a IDLE\r\nDONE\r\nb AUTHENTICATE PLAIN\r\nc GETMETADATA {0}\r\nd STARTTLS\r\n",
		"a SETMETADATA {0}\r\n (/private/x {3+}\r\nabc)\r\nb X ~{1+}\r\nx (\"{1}\\\"\" {2}\r\nxx\r\n",
		"a  GETMETADATA\r\n+ GETMETADATA\r\n\r\n a GETMETADATA\r\na+ STARTTLS\r\n",
		"a LOGIN {1+}\r\nx {1}\r\nb GETMETADATA\r\n",
		"a FOO {10} \r\nb FOO {14}\r\n\r\nc STARTTLS\r\n",
		"a FOO {11} \r\nb FOO {14+} \r\n\r\nc STARTTLS\r\n",
		"a FOO {3} {12}\r\nc STARTTLS\r\nb NOOP\r\n",
		"a IDLE\r\n\xfeDONE\rb STARTTLS\r\nc AUTHENTICATE PLAIN\r\n\xfe*\rd STARTTLS\r\n",
		"a ENABLE X\rb STARTTLS\r\nc ID NIL\rd STARTTLS\r\ne ID \rf STARTTLS\rNIL\r\n",
		"a AUTHENTICATE PLAIN\r\n\xfe" + strings.Repeat("A", cyrusLine) + "b STARTTLS\r\n",
		"a IDLE\r\n\xfeDONE {8+}\r\nb NOOP\r\n\xfec STARTTLS\r\n",
		"a]STARTTLS NOOP\r\n",
		"a SETMETADATA \"\" (/private/x {50000+}\r\n" + strings.Repeat("b STARTTLS\r\n\r\n\r\n\r\n", 2778)[:50000] + " /shared/comment {12+}\r\nb STARTTLS\r\n)\r\nc NOOP\r\n",
		"a IDLE\r\n\xfeDONE {13+}\r\nb APPEND {14}\r\nc STARTTLS\r\n\r\nd NOOP\r\n",
	} {
		for _, flags := range []uint16{0, 1, 2, 4, 8, 15, 23, 39, 64, 128, 160, 256, 512, 1024, 1025, 1028} {
			f.Add(flags, []byte(seed), uint64(flags))
		}
	}
	f.Fuzz(func(t *testing.T, flags uint16, client []byte, seed uint64) {
		backend := &modelBackend{
			refuses:    flags&1 != 0,
			anywhere:   flags&2 != 0,
			spans:      flags&4 != 0,
			loginFails: flags&8 != 0,
			sloppy:     flags&64 != 0,
			returns:    flags&128 != 0,
			cuts:       flags&256 != 0,
			splits:     flags&512 != 0,
		}
		greeting := "* OK [CAPABILITY IMAP4rev1 LITERAL+] hi\r\n"
		if flags&1024 != 0 {
			greeting = "* PREAUTH [CAPABILITY IMAP4rev1 LITERAL+ METADATA] hi\r\n"
		}
		options := Options{Entries: testEntries, TLS: flags&16 == 0}
		if flags&32 != 0 {
			greeting = strings.Replace(greeting, "OK", "PREAUTH", 1)
		}
		w := newWire(options, cutRandomly(seed))
		if err := w.fromBackend([]byte(greeting)); err != nil {
			t.Fatal(err)
		}
		for packet := range bytes.SplitSeq(client, []byte{0xFE}) {
			if err := w.fromClient(packet); err != nil {
				t.Fatal(err)
			}
			for w.backend.Len() > 0 {
				answers := backend.read(w.backend.Next(w.backend.Len()))
				if err := w.fromBackend(answers); err != nil {
					t.Fatal(err)
				}
			}
		}
		forbidden := []string{"STARTTLS", "COMPRESS"}
		if flags&1024 == 0 {
			forbidden = append(forbidden, "GETMETADATA", "SETMETADATA")
		}
		if !options.TLS && flags&(32|1024) == 0 {
			forbidden = append(forbidden, "LOGIN", "AUTHENTICATE")
		}
		for _, command := range backend.commands {
			if slices.Contains(forbidden, command) || strings.HasPrefix(command, "no command") {
				t.Fatalf("backend took %q for a command", command)
			}
		}
	})
}
