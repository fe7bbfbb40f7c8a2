package imapext

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/imapext/metadata"
)

func newLoggedIn(b *testing.B) *Filter {
	b.Helper()
	f := New(Options{Entries: testEntries, TLS: true})
	if err := f.FromBackend([]byte("* PREAUTH [CAPABILITY IMAP4rev1 LITERAL+] hi\r\n")); err != nil {
		b.Fatal(err)
	}
	if err := f.WriteClient(io.Discard); err != nil {
		b.Fatal(err)
	}
	return f
}

// BenchmarkGetMetadata parses and answers what Delta Chat asks.
func BenchmarkGetMetadata(b *testing.B) {
	command := []byte(`A5 GETMETADATA "" (/shared/comment /shared/admin /shared/vendor/deltachat/irohrelay ` +
		`/shared/vendor/deltachat/turn /shared/vendor/deltachat/maxsmtprecipients /shared/vendor/deltachat/appversions)` + "\r\n")
	f := newLoggedIn(b)
	b.ReportAllocs()
	for b.Loop() {
		if n, event := f.FromClient(command); n != len(command) || event != Continue {
			b.Fatal(n, event)
		}
		if err := f.WriteClient(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseGet is the part of BenchmarkGetMetadata that is RFC 5464's grammar.
func BenchmarkParseGet(b *testing.B) {
	args := []byte(` "" (/shared/comment /shared/admin /shared/vendor/deltachat/irohrelay ` +
		`/shared/vendor/deltachat/turn /shared/vendor/deltachat/maxsmtprecipients /shared/vendor/deltachat/appversions)` + "\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := metadata.ParseGet(args); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFetch passes FETCH responses of 100 MB in reads of 32 KiB.
func BenchmarkFetch(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 20} {
		b.Run(fmt.Sprintf("messages of %d", size), func(b *testing.B) {
			message := fmt.Sprintf("* 1 FETCH (UID 1 FLAGS (\\Seen) BODY[] {%d}\r\n%s)\r\n", size, strings.Repeat("x", size))
			stream := []byte(strings.Repeat(message, max(1, 100<<20/len(message))))
			f := newLoggedIn(b)
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				for p := stream; len(p) > 0; {
					n := min(len(p), 32<<10)
					if err := f.FromBackend(p[:n]); err != nil {
						b.Fatal(err)
					}
					if err := f.WriteClient(io.Discard); err != nil {
						b.Fatal(err)
					}
					p = p[n:]
				}
			}
		})
	}
}

// BenchmarkAppend passes an APPEND of 100 MB in reads of 32 KiB.
func BenchmarkAppend(b *testing.B) {
	const size = 100 << 20
	command := fmt.Appendf(nil, "a APPEND Sent (\\Seen) {%d+}\r\n%s\r\n", size, strings.Repeat("x", size))
	f := newLoggedIn(b)
	b.SetBytes(int64(len(command)))
	b.ReportAllocs()
	for b.Loop() {
		for p := command; len(p) > 0; {
			n, event := f.FromClient(p[:min(len(p), 32<<10)])
			if err := f.WriteBackend(io.Discard); err != nil {
				b.Fatal(err)
			}
			p = p[n:]
			if event == Wait {
				if err := f.FromBackend([]byte("+ go\r\n")); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := f.FromBackend([]byte("a OK\r\n")); err != nil {
			b.Fatal(err)
		}
		if err := f.WriteClient(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommands passes short commands and their answers.
func BenchmarkCommands(b *testing.B) {
	command, answer := []byte("A12 UID FETCH 1:* (FLAGS)\r\n"), []byte("A12 OK Fetch completed (0.001 secs).\r\n")
	f := newLoggedIn(b)
	b.ReportAllocs()
	for b.Loop() {
		if n, event := f.FromClient(command); n != len(command) || event != Continue {
			b.Fatal(n, event)
		}
		if err := f.WriteBackend(io.Discard); err != nil {
			b.Fatal(err)
		}
		if err := f.FromBackend(answer); err != nil {
			b.Fatal(err)
		}
		if err := f.WriteClient(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
