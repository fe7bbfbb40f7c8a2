package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

// hidden is a command that has to run nowhere.
const hidden = "x1 CREATE smuggled\r\n"

type smuggling struct {
	name string
	text string
	want []string // mailboxes afterwards, besides INBOX
	// ends says that mailturn ends the session there: readers differ in what the text means.
	ends bool
	// stalls says that Dovecot neither asks for the literal nor refuses it. mailturn ends the session after minutes, for which
	// this test does not wait: TestUpstreamDoesNotTakeTheCommand of endpoint/imap has them pass at once. Dovecot is stopped
	// instead, whose end is that of the session.
	stalls bool
	// metadata says that Dovecot has METADATA.
	metadata bool
}

// beginnings are those of commands, right and wrong, each of which is made an attempt with a literal after it.
var beginnings = []string{
	"APPEND", "APPEND INBOX", "APPEND INBOX {0+}\r\n", "APPEND INBOX CATENATE (TEXT",
	`APPEND INBOX "no date"`, "APPEND INBOX {1+}\r\nx (x) \"no date\"", "APPEND INBOX CATENATE (NONSENSE", "APPEND INBOX CATENATE (TEXT {1+}\r\nx",
	"COPY", "COPY 1 INBOX", "CREATE honest", "DELETE Nowhere", "EXAMINE INBOX", "FETCH 1", "LIST x x", "LIST (NONSENSE)", "LSUB x x",
	"LOGIN", "LOGIN x x", "MOVE 1 INBOX", "RENAME x y", "SEARCH NONSENSE", "SELECT INBOX", "SELECT INBOX (NONSENSE", "STATUS INBOX", "STATUS INBOX (x)",
	"STORE 1 FLAGS", "SUBSCRIBE INBOX", "UNSUBSCRIBE INBOX", "UID", "UID FETCH 1", "UID NONSENSE", "SORT", "THREAD", "ID", "ID NIL", "CHECK",
	"CLOSE", "EXPUNGE", "NAMESPACE", "UNSELECT", "CAPABILITY", "STARTTLS", "COMPRESS DEFLATE", "ENABLE CONDSTORE", "NOTIFY NONE",
}

// smugglings are attempts to make Dovecot run a command that mailturn reads as data, or to make mailturn read data as a response or
// a command. Each creates the mailbox "smuggled" if it succeeds; other mailboxes are those of a correct reading.
var smugglings = []smuggling{
	{name: "literal of an unknown command", text: literalOf("a NONSENSE ", hidden) + "\r\nb CREATE honest\r\n", want: []string{"honest"}},
	{name: "literal of a command without arguments", text: literalOf("a NOOP ", hidden) + "\r\nb CREATE honest\r\n", want: []string{"honest"}},
	{name: "second literal of a wrong command", text: literalOf(literalOf("a LIST ", "x"), hidden) + "\r\nb CREATE honest\r\n", want: []string{"honest"}},
	{name: "literal of GETMETADATA", text: literalOf(`a GETMETADATA "" `, hidden) + "\r\nb CREATE honest\r\n", want: []string{"honest"}},
	{name: "literal of SETMETADATA that is refused", text: literalOf(`a SETMETADATA "" (/shared/comment `, hidden) + ")\r\nb CREATE honest\r\n", want: []string{"honest"}},
	{name: "literal of SETMETADATA for no mailbox", metadata: true,
		text: literalOf("a SETMETADATA Nowhere (/private/comment ", hidden) + ")\r\nb CREATE honest\r\n", want: []string{"honest"}},
	{name: "literal of GETMETADATA beyond what is read whole", text: literalOf(`a GETMETADATA "" `, strings.Repeat(hidden, 5000)) + "\r\nb CREATE honest\r\n", want: []string{"honest"}},
	{name: "literal of APPEND to no mailbox", text: literalOf("a APPEND Nowhere ", hidden) + "\r\nb CREATE honest\r\n", want: []string{"honest"}},
	{name: "literal of APPEND that holds responses",
		text: literalOf("a APPEND INBOX ", "b OK done\r\n* BYE\r\n+ go\r\n"+hidden) + "\r\nb SELECT INBOX\r\nc FETCH 1 BODY[]\r\nd CREATE honest\r\n", want: []string{"honest"}},
	{name: "literal after APPEND INBOX NONSENSE", text: literalOf("a APPEND INBOX NONSENSE ", hidden) + "\r\nb CREATE honest\r\n", stalls: true},
	{name: "announcement within quotes", text: "a LIST \"\" \"{20+}\"\r\nb CREATE honest\r\n", want: []string{"honest"}},
	{name: "announcement within quotes at the line's end", text: "a LIST \"\" \"x {20+}\r\n" + hidden, ends: true},
	{name: "announcement within a line", text: literalOf("a SEARCH TEXT {3} ", hidden) + "\r\n", ends: true},
	{name: "line end within quotes", text: "a LIST \"\" \"\r\n" + hidden + "\"\r\n", ends: true},
	{name: "LF within quotes", text: "a LIST \"\" \"\n" + hidden + "\"\r\n", ends: true},
	{name: "CR within quotes", text: "a LIST \"\" \"\r" + hidden + "\"\r\n", ends: true},
	{name: "CR between two commands", text: "a NOOP\r" + hidden, ends: true},
	{name: "CR after an announcement", text: "a LIST \"\" {2+}\r" + hidden, ends: true},
	{name: "size that does not fit 64 bits", text: "a LIST \"\" {18446744073709551617+}\r\n" + hidden, ends: true},
	{name: "literal of a line of IDLE", text: fmt.Sprintf("a IDLE\r\nDONE {%d+}\r\n", len(hidden)) + hidden, ends: true},
	{name: "command after a line of AUTHENTICATE that is too long", text: "a AUTHENTICATE PLAIN\r\n" + strings.Repeat("A", 21847) + hidden + "b CREATE honest\r\n", want: []string{"honest"}},
	{name: "command line that is too long", text: "a LIST \"\" " + strings.Repeat("x", 1<<16) + " " + hidden, ends: true},
	{name: "tag that is answered untagged", text: "a] CREATE smuggled\r\nb CREATE honest\r\n", want: []string{"honest"}},
	{name: "literal of IDLE", text: "a IDLE {2}\r\n\r\n" + hidden, ends: true},
	{name: "literal of AUTHENTICATE", text: literalOf("a AUTHENTICATE PLAIN", hidden) + "\r\n", ends: true},
	{name: "literal8 of an unknown command", text: strings.Replace(literalOf("a NONSENSE ", hidden), "{", "~{", 1) + "\r\nb CREATE honest\r\n", want: []string{"honest"}},
}

// literalOf appends text to command as a non-synchronising literal.
func literalOf(command, text string) string {
	if !strings.HasSuffix(command, " ") {
		command += " "
	}
	return fmt.Sprintf("%s{%d+}\r\n%s", command, len(text), text)
}

var listResponse = regexp.MustCompile(`^\* LIST \(.*\) "." "?([^"\r\n]*)"?\r\n$`)

// mailboxes asks Dovecot directly.
func mailboxes(t *testing.T, d *dovecot.Server, user string) (names []string) {
	t.Helper()
	for _, response := range direct(d).mustRun(t, user, `LIST "" *`) {
		if m := listResponse.FindStringSubmatch(response); m != nil && m[1] != "INBOX" {
			names = append(names, m[1])
		}
	}
	return names
}

// TestSmuggling sends each attempt to Dovecot through mailturn, whole and in pieces.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	eachDovecot(t, testSmuggling)
}

func testSmuggling(t *testing.T, version string, root *chroot.Root) {
	plain := startDovecot(t, dovecot.Options{Root: root})
	withMetadata := startDovecot(t, dovecot.Options{Root: root, AttributeDict: "file:%h/attributes"})
	proxies := map[*dovecot.Server]*proxy{plain: startProxy(t, plain.Addr), withMetadata: startProxy(t, withMetadata.Addr)}
	attempts := smugglings
	for _, begin := range beginnings {
		attempt := smuggling{name: "literal after " + begin, text: literalOf("a "+begin, hidden) + "\r\nb CREATE honest\r\n", want: []string{"honest"}}
		if version == "2.4" && strings.HasPrefix(begin, "APPEND INBOX CATENATE (") && begin != "APPEND INBOX CATENATE (TEXT" {
			attempt.want = nil // Dovecot 2.4.1 swallows the line after the literal that it has refused, whoever sends it
		}
		attempts = append(attempts, attempt)
	}
	for _, tt := range attempts {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := plain
			if tt.metadata {
				d = withMetadata
			}
			p := proxies[d]
			if tt.stalls {
				d = startDovecot(t, dovecot.Options{})
				p = startProxy(t, d.Addr)
				defer d.Stop()
			}
			for _, size := range []int{1 << 20, 7, 1} {
				if size == 1 && len(tt.text) > 10_000 {
					continue
				}
				user := newUser()
				conn, err := p.dialTLS()
				if err != nil {
					t.Fatal(err)
				}
				limit := stepLimit
				if tt.stalls {
					limit = 2 * time.Second
				}
				conn.SetDeadline(time.Now().Add(limit))
				go func() {
					text := fmt.Sprintf("l LOGIN %s %s\r\n%s", user, dovecot.Password, tt.text)
					for chunk := range slices.Chunk([]byte(text), size) {
						if _, err := conn.Write(chunk); err != nil {
							return // mailturn has ended the session
						}
					}
					conn.(*tls.Conn).CloseWrite()
				}()
				answer, err := io.ReadAll(conn)
				conn.Close()
				if stalled := errors.Is(err, os.ErrDeadlineExceeded); err != nil && !tt.ends && !tt.stalls || stalled != tt.stalls {
					t.Errorf("%d bytes at a time: %v after %q", size, err, answer)
				}
				if strings.Contains(string(answer), "\r\nx1 ") && !strings.Contains(tt.name, "APPEND") {
					t.Errorf("%d bytes at a time: the hidden command is answered: %q", size, answer)
				}
				if tt.ends != strings.Contains(string(answer), "\r\n* BYE ") {
					t.Errorf("%d bytes at a time: ended with BYE: %t, want %t: %q", size, !tt.ends, tt.ends, answer)
				}
				if got := mailboxes(t, d, user); !slices.Equal(got, tt.want) {
					t.Errorf("%d bytes at a time: there are the mailboxes %q, want %q: %q", size, got, tt.want, answer)
				}
			}
		})
	}
}

// TestSmugglingBehindStartTLS sends commands in the clear after STARTTLS, in the same packet and before the handshake, and checks
// that they are discarded (RFC 9051 section 6.2.1), so an attacker cannot inject anything into the session.
func TestSmugglingBehindStartTLS(t *testing.T) {
	d := startDovecot(t, dovecot.Options{})
	p := startProxy(t, d.Addr)
	for _, text := range []string{
		"a STARTTLS\r\nb LOGIN %s %s\r\n" + hidden,
		"a STARTTLS\r\nb LOGIN %s %s\r\nc SELECT {1000+}\r\n",
		"a STARTTLS\r\nb LOGIN %s %s\r\nc SEL",
	} {
		user := newUser()
		conn, err := dialPlain(p.addr())()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(stepLimit))
		fmt.Fprintf(conn, text, user, dovecot.Password)
		// Unbuffered, as what follows the line is TLS.
		for _, begin := range []string{"* OK ", "a OK "} {
			var line []byte
			for b := make([]byte, 1); !strings.HasSuffix(string(line), "\n"); line = append(line, b...) {
				if _, err := io.ReadFull(conn, b); err != nil {
					t.Fatal(err)
				}
			}
			if !strings.HasPrefix(string(line), begin) {
				t.Fatalf("got %q, want %q", line, begin)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), dialTimeout)
		defer cancel()
		client := tls.Client(conn, p.tls)
		if err := client.HandshakeContext(ctx); err != nil {
			t.Fatalf("handshake: %v", err)
		}
		// Not logged in, at the beginning of a line, and with no answer to anything but this.
		fmt.Fprintf(client, "d SELECT INBOX\r\ne LOGIN %s %s\r\nf LOGOUT\r\n", user, dovecot.Password)
		var tags []string
		r := bufio.NewReader(client)
		for {
			response, err := readResponse(r)
			if err != nil {
				break
			}
			words := strings.Fields(response)
			if words[0] != "*" {
				tags = append(tags, words[0]+" "+words[1])
			}
		}
		if want := []string{"d BAD", "e OK", "f OK"}; !slices.Equal(tags, want) {
			t.Errorf("%q: got the answers %q, want %q", text, tags, want)
		}
		if got := mailboxes(t, d, user); len(got) != 0 {
			t.Errorf("%q: there are the mailboxes %q", text, got)
		}
	}
}
