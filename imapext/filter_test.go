package imapext_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/mailturn/mailturn/imapext"
	"github.com/mailturn/mailturn/imapext/metadata"
)

// TestPipeline sends 10,000 commands without waiting, every tenth one for the Filter, over connections without any buffer, and
// checks that each is answered once, and those of the backend in order.
func TestPipeline(t *testing.T) {
	const commands = 10000
	mailturn, backend := net.Pipe()
	client, server := net.Pipe()
	var goroutines sync.WaitGroup
	goroutines.Go(func() { answerAll(backend) })
	goroutines.Go(func() { serve(imapext.New(imapext.Options{Entries: entries{}, TLS: true}), server, mailturn) })
	goroutines.Go(func() {
		w := bufio.NewWriter(client)
		fmt.Fprint(w, "l LOGIN alice secret\r\n")
		for i := range commands {
			if i%10 == 0 {
				fmt.Fprintf(w, "m%d GETMETADATA \"\" /shared/vendor/deltachat/turn\r\n", i)
			} else {
				fmt.Fprintf(w, "n%d NOOP\r\n", i)
			}
		}
		fmt.Fprint(w, "x LOGOUT\r\n")
		w.Flush()
	})
	answers := bufio.NewScanner(client)
	next := map[byte]int{'m': 0, 'n': 1}
	values := 0
	for answers.Scan() {
		line := answers.Text()
		switch {
		case strings.HasPrefix(line, `* METADATA "" (/shared/vendor/deltachat/turn "`):
			values++
		case line[0] == 'm' || line[0] == 'n':
			if want := fmt.Sprintf("%c%d OK ", line[0], next[line[0]]); !strings.HasPrefix(line, want) {
				t.Fatalf("got %q, want %q", line, want)
			}
			if line[0] == 'm' || next['n']%10 == 9 {
				next[line[0]] += map[byte]int{'m': 10, 'n': 2}[line[0]]
			} else {
				next['n']++
			}
		}
		if strings.HasPrefix(line, "x OK") {
			break
		}
	}
	if next['m'] != commands || next['n'] != commands+1 || values != commands/10 {
		t.Errorf("got to %v with %d values", next, values)
	}
	client.Close()
	goroutines.Wait()
}

// TestOutstanding checks that the number of unanswered commands is bounded for a client that does not wait for answers.
func TestOutstanding(t *testing.T) {
	f := imapext.New(imapext.Options{TLS: true})
	if err := f.FromBackend([]byte("* PREAUTH hi\r\n")); err != nil {
		t.Fatal(err)
	}
	if !f.LoggedIn() {
		t.Error("not logged in by PREAUTH")
	}
	var commands []byte
	for i := range 10000 {
		commands = fmt.Appendf(commands, "%04d NOOP\r\n", i)
	}
	const command = len("0000 NOOP\r\n")
	n, event := f.FromClient(commands)
	if n != 1024*command || event != imapext.Wait {
		t.Fatalf("FromClient = %d, %v, want 1024 commands and Wait", n, event)
	}
	var backend strings.Builder
	if err := f.WriteBackend(&backend); err != nil || backend.String() != string(commands[:n]) {
		t.Errorf("backend got %d bytes, %v", backend.Len(), err)
	}
	if err := f.FromBackend([]byte("0001 OK\r\n")); err != nil {
		t.Fatal(err)
	}
	<-f.Resume()
	if more, event := f.FromClient(commands[n:]); more != command || event != imapext.Wait {
		t.Errorf("FromClient = %d, %v, want one command and Wait", more, event)
	}
}

// TestManyAnswers checks that commands which are answered here do not pile up answers before they are written, and that many
// short answers make few writes.
func TestManyAnswers(t *testing.T) {
	const bound = 16<<10 + 200 // and the answers before and after
	f := imapext.New(imapext.Options{TLS: true})
	p := bytes.Repeat([]byte("\n"), 64<<10)
	if err := f.FromBackend([]byte("* PREAUTH hi\r\n* 1 FETCH (BODY[] {5}\r\n")); err != nil {
		t.Fatal(err)
	}
	n, event := f.FromClient(p)
	if event != imapext.Wait || n >= len(p) {
		t.Fatalf("FromClient = %d, %v while a response is passing, want Wait", n, event)
	}
	p = p[n:]
	if err := f.FromBackend([]byte("12345)\r\n")); err != nil {
		t.Fatal(err)
	}
	<-f.Resume()
	size, writes := 0, 0
	for event = imapext.Wait; ; n, event = f.FromClient(p) {
		var written recorder
		if err := f.WriteClient(&written); err != nil {
			t.Fatal(err)
		}
		queued := 0
		for _, b := range written {
			queued += len(b)
		}
		if queued > bound {
			t.Errorf("%d bytes queued, want %d at most", queued, bound)
		}
		size += queued
		writes += len(written)
		if event == imapext.Continue {
			if p = p[n:]; len(p) == 0 {
				break
			}
		}
	}
	if want := 64 << 10 * len("* BAD Empty command line\r\n"); size < want || writes > size/2048 {
		t.Errorf("%d bytes in %d writes, want %d in few", size, writes, want)
	}
}

// TestHandshake checks that nothing from the backend reaches the client between the OK to STARTTLS and TLS, and that what is held
// is bounded.
func TestHandshake(t *testing.T) {
	f := imapext.New(imapext.Options{StartTLS: true})
	var client strings.Builder
	expect := func(want string) {
		t.Helper()
		if err := f.WriteClient(&client); err != nil || client.String() != want {
			t.Fatalf("client got %q, %v, want %q", client.String(), err, want)
		}
		client.Reset()
	}
	fromBackend := func(s string, want error) {
		t.Helper()
		if err := f.FromBackend([]byte(s)); !errors.Is(err, want) {
			t.Fatalf("FromBackend: %v, want %v", err, want)
		}
	}
	fromBackend("* OK [CAPABILITY IMAP4rev1] hi\r\n", nil)
	expect("* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hi\r\n")
	injected := []byte("a STARTTLS\r\nb LOGIN x y\r\n")
	if n, event := f.FromClient(injected); n != len(injected) || event != imapext.StartTLS {
		t.Fatalf("FromClient = %d, %v", n, event)
	}
	expect("a OK Begin TLS negotiation now\r\n")
	fromBackend("* BYE [CAPABILITY IMAP4rev1]", nil)
	fromBackend(" enough\r\n", nil)
	f.Bye("Shutting down")
	expect("")
	fromBackend(strings.Repeat("x", 64<<10), imapext.ErrStash)
	if f.Session().TLS {
		t.Error("TLS before StartedTLS")
	}
	f.StartedTLS()
	if !f.Session().TLS {
		t.Error("no TLS after StartedTLS")
	}
	expect("* BYE [CAPABILITY IMAP4rev1] enough\r\n")
}

// TestCompress checks that COMPRESS stops the client's stream directly after its line, and that nothing from the backend reaches
// the client between the OK and Compressed.
func TestCompress(t *testing.T) {
	f := imapext.New(imapext.Options{TLS: true, Compress: true})
	var client, backend strings.Builder
	expect := func(want string) {
		t.Helper()
		if err := f.WriteClient(&client); err != nil || client.String() != want {
			t.Fatalf("client got %q, %v, want %q", client.String(), err, want)
		}
		client.Reset()
	}
	fromBackend := func(s string, want error) {
		t.Helper()
		if err := f.FromBackend([]byte(s)); !errors.Is(err, want) {
			t.Fatalf("FromBackend: %v, want %v", err, want)
		}
	}
	fromBackend("* PREAUTH [CAPABILITY IMAP4rev1] hi\r\n* 1", nil)
	expect("* PREAUTH [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE] hi\r\n")
	const command = "a COMPRESS DEFLATE\r\n"
	if n, event := f.FromClient([]byte(command + "\x4b\x50\r\nb NOOP\r\n")); n != len(command) || event != imapext.Compress {
		t.Fatalf("FromClient = %d, %v, want %d and Compress", n, event, len(command))
	}
	fromBackend(" EXISTS\r\n* 2 EXISTS\r\n", nil)
	f.Bye("Shutting down")
	expect("a OK DEFLATE active\r\n")
	if f.Quiet() {
		t.Error("quiet in the middle of the change")
	}
	f.Compressed()
	expect("* 1 EXISTS\r\n* 2 EXISTS\r\n")
	fromBackend("* CAPABILITY IMAP4rev1 COMPRESS=DEFLATE\r\n", nil)
	expect("* CAPABILITY IMAP4rev1\r\n")
	if n, event := f.FromClient([]byte("b NOOP\r\n")); n != 8 || event != imapext.Continue {
		t.Fatalf("FromClient = %d, %v", n, event)
	}
	if err := f.WriteBackend(&backend); err != nil || backend.String() != "b NOOP\r\n" {
		t.Errorf("backend got %q, %v", backend.String(), err)
	}
}

// TestUncompress checks that the OK to UNAUTHENTICATE is the last response to the client before Uncompressed, however long it is,
// and that the client's bytes are not read before.
func TestUncompress(t *testing.T) {
	for _, text := range []string{"out", strings.Repeat("x", 20000)} {
		f := imapext.New(imapext.Options{TLS: true, Compress: true})
		var client strings.Builder
		fromClient := func(s string, wantN int, want imapext.Event) {
			t.Helper()
			if n, event := f.FromClient([]byte(s)); n != wantN || event != want {
				t.Fatalf("FromClient(%q) = %d, %v, want %d, %v", s, n, event, wantN, want)
			}
		}
		fromBackend := func(s, want string) {
			t.Helper()
			if err := f.FromBackend([]byte(s)); err != nil {
				t.Fatal(err)
			}
			client.Reset()
			if err := f.WriteClient(&client); err != nil || client.String() != want {
				t.Fatalf("client got %q, %v, want %q", client.String(), err, want)
			}
		}
		fromBackend("* PREAUTH hi\r\n", "* PREAUTH hi\r\n")
		fromClient("a COMPRESS DEFLATE\r\n", 20, imapext.Compress)
		f.Compressed()
		fromBackend("* 1 EXISTS\r\n", "a OK DEFLATE active\r\n* 1 EXISTS\r\n")
		fromClient("b UNAUTHENTICATE\r\n", 18, imapext.Wait)
		fromClient("c NOOP\r\n", 0, imapext.Wait)
		fromBackend("b OK "+text+"\r\n* OK more\r\n", "b OK "+text+"\r\n")
		<-f.Resume()
		fromClient("", 0, imapext.Uncompress)
		fromBackend("* OK yet more\r\n", "")
		f.Uncompressed()
		fromBackend("* OK still more\r\n", "* OK more\r\n* OK yet more\r\n* OK still more\r\n")
		fromClient("d NOOP\r\n", 8, imapext.Continue)
	}
}

// TestIdentify checks that the backend is told about a client that has sent nothing.
func TestIdentify(t *testing.T) {
	f := imapext.New(imapext.Options{TLS: true, Identify: []imapext.IDField{{Name: "x-originating-ip", Value: "192.0.2.1"}}})
	if n, event := f.FromClient(nil); n != 0 || event != imapext.Wait {
		t.Fatalf("FromClient = %d, %v before the greeting, want Wait", n, event)
	}
	if err := f.FromBackend([]byte("* OK [CAPABILITY IMAP4rev1 ID] hi\r\n")); err != nil {
		t.Fatal(err)
	}
	<-f.Resume()
	if f.Identified() {
		t.Error("identified too early")
	}
	f.FromClient(nil)
	var backend strings.Builder
	const want = "mailturn ID (\"x-originating-ip\" \"192.0.2.1\")\r\n"
	if err := f.WriteBackend(&backend); err != nil || backend.String() != want || !f.Identified() {
		t.Errorf("backend got %q, %v, want %q", backend.String(), err, want)
	}
	if f.Quiet() {
		t.Error("quiet while ID is not answered")
	}
	if err := f.FromBackend([]byte("* ID NIL\r\nmailturn OK\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, event := f.FromClient([]byte("a NOOP\r\n")); event != imapext.Continue {
		t.Errorf("FromClient returns %v after ID", event)
	}
}

// TestWriteError checks that the errors of writers are returned.
func TestWriteError(t *testing.T) {
	f := imapext.New(imapext.Options{TLS: true})
	if err := f.FromBackend([]byte("* OK hi\r\n")); err != nil {
		t.Fatal(err)
	}
	f.FromClient([]byte("a NOOP\r\n"))
	r, w := io.Pipe()
	broken := errors.New("broken")
	r.CloseWithError(broken)
	for range 2 {
		if err := f.WriteClient(w); !errors.Is(err, broken) {
			t.Errorf("WriteClient: %v", err)
		}
	}
	if err := f.WriteBackend(w); !errors.Is(err, broken) {
		t.Errorf("WriteBackend: %v", err)
	}
}

// TestNoCopy checks that bytes that pass are those of the caller's buffer, in one piece.
func TestNoCopy(t *testing.T) {
	f := imapext.New(imapext.Options{TLS: true, Entries: entries{}})
	if err := f.FromBackend([]byte("* PREAUTH [CAPABILITY IMAP4rev1 LITERAL+] hi\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteClient(io.Discard); err != nil {
		t.Fatal(err)
	}
	client := []byte("a NOOP\r\nb STORE 1 +FLAGS (\\Seen)\r\nc FETCH 1 (FLAGS)\r\n")
	if n, _ := f.FromClient(client); n != len(client) {
		t.Fatalf("FromClient = %d", n)
	}
	backend := []byte("* 1 FETCH (BODY[] {5}\r\nabcde)\r\na OK\r\n* OK\r\n+ x\r\n* 2 EXISTS\r\n")
	if err := f.FromBackend(backend); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		write func(io.Writer) error
		want  []byte
	}{
		{"backend", f.WriteBackend, client},
		{"client", f.WriteClient, backend},
	} {
		var writes recorder
		if err := test.write(&writes); err != nil || len(writes) != 1 || &writes[0][0] != &test.want[0] || len(writes[0]) != len(test.want) {
			t.Errorf("%s: %d writes of %q, %v", test.name, len(writes), writes, err)
		}
	}
}

// recorder keeps the slices written to it.
type recorder [][]byte

func (r *recorder) Write(p []byte) (int, error) {
	*r = append(*r, p)
	return len(p), nil
}

// sessions records the sessions for which entries are requested.
type sessions []imapext.Session

func (s *sessions) Entries(session imapext.Session) []metadata.Entry {
	*s = append(*s, session)
	return nil
}

// TestSession checks the Session passed to the source of entries, and that the source is called once for each command.
func TestSession(t *testing.T) {
	var asked sessions
	f := imapext.New(imapext.Options{TLS: true, Entries: &asked})
	for _, b := range []string{"* OK hi\r\n", "a OK [CAPABILITY IMAP4rev1]\r\n"} {
		if err := f.FromBackend([]byte(b)); err != nil {
			t.Fatal(err)
		}
		f.FromClient([]byte("a LOGIN \"ali\\\"ce\" secret\r\n"))
	}
	if _, event := f.FromClient([]byte("b GETMETADATA \"\" /shared/comment\r\n")); event != imapext.Wait {
		t.Fatalf("second LOGIN did not stop the stream: %v", event)
	}
	if err := f.FromBackend([]byte("a BAD already\r\n")); err != nil {
		t.Fatal(err)
	}
	f.FromClient([]byte("b GETMETADATA \"\" /shared/comment\r\n"))
	if want := (imapext.Session{Account: `ali"ce`, TLS: true}); len(asked) != 1 || asked[0] != want {
		t.Errorf("asked for %+v, want %+v once", asked, want)
	}
}
