package imapext

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/mailturn/mailturn/imapext/metadata"
)

// The scripts in testdata are IMAP exchanges. Each file of an archive is one:
//
//	C: what the client sends        F: what the backend gets, forwarded
//	B: what the backend sends       S: what the client gets
//
// Lines end in CR LF; one that ends in <LF> ends in a bare LF, and one that ends in <> goes on without a line end. <CR>,
// <NUL>, <8bit> and <x*N> (N times "x") stand for what they say. Lines that follow each other with the same letter are one packet,
// and whatever a packet brings about has to be what the F and S lines after it say, and nothing else. "# " begins a comment,
// "! " a list of options; "= account name" checks the session, "= closed" that the Filter asked to close it,
// and "= repeats" and "= repeats-nothing" call RepeatExists.
//
// Every script runs several times, with the packets cut at different places: the result has to be the same.
type script struct {
	name  string
	lines []string
}

func readScripts(t testing.TB) []script {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var scripts []script
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			scripts = append(scripts, script{
				name:  strings.TrimSuffix(filepath.Base(file), ".txtar") + "/" + f.Name,
				lines: strings.Split(strings.TrimSuffix(string(f.Data), "\n"), "\n"),
			})
		}
	}
	return scripts
}

// cutter cuts a packet into chunks.
type cutter func(packet []byte) [][]byte

func whole(packet []byte) [][]byte { return [][]byte{packet} }

func cutEvery(n int) cutter {
	return func(packet []byte) (chunks [][]byte) {
		for len(packet) > n {
			chunks = append(chunks, packet[:n])
			packet = packet[n:]
		}
		return append(chunks, packet)
	}
}

func cutRandomly(seed uint64) cutter {
	random := rand.New(rand.NewPCG(seed, seed))
	return func(packet []byte) (chunks [][]byte) {
		for len(packet) > 0 {
			n := min(len(packet), 1+random.IntN(1+random.IntN(40)))
			chunks = append(chunks, packet[:n])
			packet = packet[n:]
		}
		return chunks
	}
}

func TestScripts(t *testing.T) {
	cutters := map[string]cutter{"whole": whole, "bytes": cutEvery(1), "pairs": cutEvery(2), "sevens": cutEvery(7)}
	for seed := range uint64(20) {
		cutters[fmt.Sprintf("random %d", seed)] = cutRandomly(seed)
	}
	for _, s := range readScripts(t) {
		t.Run(s.name, func(t *testing.T) {
			for name, cut := range cutters {
				if err := s.run(cut); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		})
	}
}

// testEntries are the entries of scripts.
var testEntries = entryList{
	{Name: "/shared/comment", Value: metadata.String(`A "quoted" \ comment`)},
	{Name: "/shared/vendor/deltachat/turn", Value: metadata.String("example.com:3478:1758650868:nkfvRIGUcx0N/jq/StNLPajpLZE=")},
	{Name: "/shared/vendor/deltachat/none"},
	{Name: "/shared/vendor/example/long/value", Value: metadata.String("Größe\r\n")},
}

type entryList []metadata.Entry

func (l entryList) Entries(Session) []metadata.Entry { return l }

func (s script) options() (Options, error) {
	options := Options{Entries: testEntries, TLS: true, Remote: netip.MustParseAddrPort("192.0.2.1:1000")}
	for _, line := range s.lines {
		words, ok := strings.CutPrefix(line, "! ")
		if !ok {
			continue
		}
		for word := range strings.FieldsSeq(words) {
			switch word {
			case "plain":
				options.TLS = false
			case "starttls":
				options.StartTLS = true
			case "identify":
				options.Identify = []IDField{
					{"x-originating-ip", "192.0.2.1"}, {"x-session-id", `a"b\c`},
					{"x-bad", "a\r\nb LOGIN"}, {strings.Repeat("x", 31), "y"}, {"y", strings.Repeat("x", 1025)}, {"z", "ü"},
				}
			case "compress":
				options.Compress = true
			case "allow-plaintext-login":
				options.AllowPlaintextLogin = true
			case "count-messages":
				options.CountMessages = true
			case "no-entries":
				options.Entries = nil
			default:
				return options, fmt.Errorf("unknown option %q", word)
			}
		}
	}
	return options, nil
}

func (s script) run(cut cutter) error {
	options, err := s.options()
	if err != nil {
		return err
	}
	wire := newWire(options, cut)
	var kind string
	var packet, want []byte
	flush := func() error {
		if kind == "" {
			return nil
		}
		defer func() { packet, want = nil, nil }()
		switch kind {
		case "C":
			return wire.fromClient(packet)
		case "B":
			return wire.fromBackend(packet)
		case "S":
			return wire.expect("client", &wire.client, want)
		case "F":
			return wire.expect("backend", &wire.backend, want)
		}
		return nil
	}
	for number, line := range append(s.lines, "E:") {
		letter, text, _ := strings.Cut(line, ":")
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "!") || line == "" {
			continue
		}
		var err error
		switch {
		case strings.HasPrefix(line, "= "):
			if err = flush(); err == nil {
				kind = ""
				err = wire.check(strings.Fields(line)[1:])
			}
		case letter == kind:
			packet = append(packet, unescape(text)...)
			want = append(want, unescape(text)...)
		case strings.Contains("CBSFE", letter) && len(letter) == 1:
			if err = flush(); err != nil {
				break
			}
			kind = letter
			if letter == "C" || letter == "B" || letter == "E" {
				err = wire.expectNothing()
			}
			packet, want = []byte(unescape(text)), []byte(unescape(text))
		default:
			err = fmt.Errorf("neither C, B, S nor F: %s", line)
		}
		if err != nil {
			return fmt.Errorf("before line %d: %w", number+1, err)
		}
	}
	return nil
}

func unescape(text string) string {
	text = strings.TrimPrefix(text, " ")
	end := "\r\n"
	if before, ok := strings.CutSuffix(text, "<>"); ok {
		text, end = before, ""
	} else if before, ok := strings.CutSuffix(text, "<LF>"); ok {
		text, end = before, "\n"
	}
	text = strings.NewReplacer("<CR>", "\r", "<LF>", "\n", "<NUL>", "\x00", "<8bit>", "\xff\x80").Replace(text)
	for {
		before, rest, ok := strings.Cut(text, "<x*")
		if !ok {
			return text + end
		}
		digits, after, _ := strings.Cut(rest, ">")
		var n int
		if _, err := fmt.Sscanf(digits, "%d", &n); err != nil {
			panic(err)
		}
		text = before + strings.Repeat("x", n) + after
	}
}

// wire drives a Filter as the package comment describes, in one goroutine.
type wire struct {
	filter          *Filter
	cut             cutter
	client, backend bytes.Buffer // what they have received
	waiting         bool
	rest            []byte // of what the client sent
	closed          bool
	resumeLate      bool // at the end of a packet of the backend, and not in it
}

func newWire(options Options, cut cutter) *wire {
	return &wire{filter: New(options), cut: cut}
}

func (w *wire) fromClient(packet []byte) error {
	if w.closed {
		return nil
	}
	if w.waiting {
		w.rest = append(w.rest, packet...)
		return nil
	}
	return w.feed(w.cut(packet))
}

func (w *wire) feed(chunks [][]byte) error {
	for i, chunk := range chunks {
		// The buffer is the Filter's until the queues are written, and then is used again.
		buffer := bytes.Clone(chunk)
		n, event := w.filter.FromClient(buffer)
		if err := w.flush(); err != nil {
			return err
		}
		for j := range buffer {
			buffer[j] = '#'
		}
		switch event {
		case Continue:
			if n != len(chunk) {
				return w.feed(append([][]byte{chunk[n:]}, chunks[i+1:]...))
			}
		case Wait:
			w.waiting = true
			w.rest = append(w.rest, chunk[n:]...)
			for _, later := range chunks[i+1:] {
				w.rest = append(w.rest, later...)
			}
			return nil
		case StartTLS:
			w.filter.StartedTLS()
			return w.flush()
		case Uncompress:
			w.filter.Uncompressed()
			return w.flush()
		case Compress:
			w.filter.Compressed()
			if err := w.flush(); err != nil {
				return err
			}
			rest := [][]byte{chunk[n:]}
			return w.feed(append(rest, chunks[i+1:]...))
		case Close:
			// The backend never sees the end of the line that it has a part of.
			w.backend.Truncate(bytes.LastIndexByte(w.backend.Bytes(), '\n') + 1)
			w.closed = true
			return nil
		}
	}
	return nil
}

func (w *wire) fromBackend(packet []byte) error {
	for _, chunk := range w.cut(packet) {
		buffer := bytes.Clone(chunk)
		if err := w.filter.FromBackend(buffer); err != nil {
			return err
		}
		if err := w.flush(); err != nil {
			return err
		}
		for j := range buffer {
			buffer[j] = '#'
		}
		if !w.resumeLate {
			if err := w.resume(); err != nil {
				return err
			}
		}
	}
	return w.resume()
}

// resume goes on with what the Filter left, which may be nothing, if it says so.
func (w *wire) resume() error {
	select {
	case <-w.filter.Resume():
	default:
		return nil
	}
	if !w.waiting {
		return nil
	}
	w.waiting = false
	chunks := w.cut(w.rest)
	w.rest = nil
	if len(chunks) == 0 {
		chunks = [][]byte{nil}
	}
	return w.feed(chunks)
}

func (w *wire) flush() error {
	if err := w.filter.WriteBackend(&w.backend); err != nil {
		return err
	}
	return w.filter.WriteClient(&w.client)
}

func (w *wire) expect(who string, buffer *bytes.Buffer, want []byte) error {
	if got := buffer.Next(len(want)); !bytes.Equal(got, want) {
		return fmt.Errorf("%s got\n%q, want\n%q", who, append(bytes.Clone(got), buffer.Bytes()...), want)
	}
	return nil
}

func (w *wire) expectNothing() error {
	if w.client.Len() > 0 || w.backend.Len() > 0 {
		return fmt.Errorf("client got %q, backend got %q too", w.client.Bytes(), w.backend.Bytes())
	}
	return nil
}

func (w *wire) check(words []string) error {
	switch words[0] {
	case "account":
		if got, want := w.filter.Session().Account, strings.Join(words[1:], " "); got != want {
			return fmt.Errorf("account %q, want %q", got, want)
		}
	case "closed":
		if !w.closed {
			return fmt.Errorf("session not closed")
		}
	case "repeats", "repeats-nothing":
		if got, want := w.filter.RepeatExists(), words[0] == "repeats"; got != want {
			return fmt.Errorf("RepeatExists: got %v, want %v", got, want)
		}
		return w.flush()
	case "waiting":
		if !w.waiting {
			return fmt.Errorf("not waiting")
		}
	default:
		return fmt.Errorf("unknown check %q", words)
	}
	return nil
}
