package interop

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// document is where Render's text is committed.
const document = "../../../../../docs/interop.md"

var cells = []Cell{
	{Kind: Client, Name: "Chromium", Version: "156.0", How: "IMAP METADATA", Transport: "UDP", Family: "IPv4", Figures: "0 of 10 lost (in 5 s); 2 ms", Control: "wrong secret"},
	{Kind: Client, Name: "Chromium", Version: "156.0", How: "IMAP METADATA", Transport: "UDP", Family: "IPv6", Control: "expired credential; wrong secret"},
	{Kind: Client, Name: "turnutils", Version: "4.6.1", How: "shared secret, by Synapse (1.2)", Transport: "DTLS", Family: "IPv4", Control: "wrong secret"},
	{Kind: Server, Name: "Dovecot", Version: "2.4.1", How: "proxied", Figures: "100 sessions", Control: "wrong password"},
	{Kind: Recipe, Name: "Synapse", Version: "1.2", How: "as in the README", Transport: "UDP", Family: "IPv4", Control: "another secret"},
	{Kind: Recipe, Name: "Synapse", Version: "1.2", How: "with reload", Control: "another secret"},
}

func TestRender(t *testing.T) {
	const want = `
## Clients

They move data through the relay, over this transport and address family between client and relay.
Where a cell says anything other than "works", that is why there is no test.

| client | credential | UDP, IPv4 | TCP, IPv4 | TLS, IPv4 | DTLS, IPv4 | UDP, IPv6 | TCP, IPv6 | TLS, IPv6 | DTLS, IPv6 | what must fail |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| Chromium | IMAP METADATA | works (156.0; 0 of 10 lost (in 5 s); 2 ms) | not tried | not tried | has no TURN over DTLS | works (156.0) | not tried | not tried | has no TURN over DTLS | expired credential; wrong secret |
| turnutils | shared secret, by Synapse (1.2) | not tried | not tried | not tried | works (4.6.1) | not tried | not tried | not tried | not tried | wrong secret |

## Servers

They are IMAP servers that mailturn is in front of, or answers for. Stalwart is missing: it is no package of Debian or npm, nor a Go module.

| server | what was done | result | what must fail |
| --- | --- | --- | --- |
| Dovecot | proxied | works (2.4.1; 100 sessions) | wrong password |

## Recipes

They are taken from this project's documentation and run as they stand, with other addresses and paths, unless they say otherwise.

| recipe | what was done | result | UDP, IPv4 | what must fail |
| --- | --- | --- | --- | --- |
| Synapse | as in the README |  | works (1.2) | another secret |
| Synapse | with reload | works (1.2) |  | another secret |
`
	if got := strings.TrimPrefix(Render(cells), introduction); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestParse(t *testing.T) {
	got, err := Parse(Render(cells))
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(cells)
	want[0].Control = want[1].Control // of their row
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	for name, text := range map[string]string{
		"no column of results": "## Servers\n| server | what was done | what must fail |\n",
		"a short row":          "## Servers\n| server | what was done | result | what must fail |\n| Dovecot | proxied | x |\n",
		"no name":              "## Servers\n| server | what was done | result | what must fail |\n|  | proxied | works (1) | x |\n| | proxied | works (1) | x |\n",
		"another transport":    "## Servers\n| server | what was done | SCTP | what must fail |\n| Dovecot | proxied | works (1) | x |\n",
	} {
		if cells, err := Parse(text); err == nil {
			t.Errorf("%s: got %+v and no error", name, cells)
		}
	}
}

// TestDocument checks that docs/interop.md is what Render returns for its cells, and so was not edited by hand, and that every
// empty cell gives a reason.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.FromSlash(document))
	if err != nil {
		t.Fatal(err)
	}
	cells, err := Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if Render(cells) != string(text) {
		t.Error("docs/interop.md is not as its own cells and the reasons of this package have it: .ci/matrix writes it")
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "| "+untried+" |") {
			t.Errorf("an empty cell has no reason among those of this package: %s", line)
		}
	}
}

func TestCompare(t *testing.T) {
	edit := func(edit func(cells []Cell) []Cell) []Cell { return edit(slices.Clone(cells)) }
	for _, tt := range []struct {
		name                                       string
		run                                        []Cell
		missing, new, otherVersions, otherControls int
	}{
		{name: "the same in another order", run: edit(func(cells []Cell) []Cell { slices.Reverse(cells); return cells })},
		{name: "other figures", run: edit(func(cells []Cell) []Cell { cells[0].Figures = "none"; return cells })},
		{name: "a newer program", run: edit(func(cells []Cell) []Cell { cells[0].Version = "157.0"; return cells }), otherVersions: 1},
		{name: "a newer program between", otherVersions: 1,
			run: edit(func(cells []Cell) []Cell { cells[2].How = "shared secret, by Synapse (1.3)"; return cells })},
		{name: "one cell less", run: cells[1:], missing: 1},
		{name: "one cell more", new: 1, run: edit(func(cells []Cell) []Cell {
			more := cells[0]
			more.Transport = "TCP"
			return append(cells, more)
		})},
		{name: "another way", run: edit(func(cells []Cell) []Cell { cells[3].How = "with PROXY"; return cells }), missing: 1, new: 1},
		{name: "another control", run: edit(func(cells []Cell) []Cell { cells[3].Control = "no password"; return cells }), otherControls: 1},
		{name: "the same controls in other cells", run: edit(func(cells []Cell) []Cell {
			cells[0].Control, cells[1].Control = cells[1].Control, cells[0].Control
			return cells
		})},
	} {
		d := Compare(cells, tt.run)
		if len(d.Missing) != tt.missing || len(d.New) != tt.new || len(d.Versions) != tt.otherVersions || len(d.Controls) != tt.otherControls {
			t.Errorf("%s: got %+v", tt.name, d)
		}
		if want := tt.missing+tt.new+tt.otherControls == 0; d.OK() != want {
			t.Errorf("%s: got %v, want %v", tt.name, d.OK(), want)
		}
	}
}

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(directory, dir)
	t.Run("cells", func(t *testing.T) {
		for range 2 {
			for _, c := range cells {
				t.Run("", func(t *testing.T) {
					t.Parallel()
					Record(t, c)
				})
			}
		}
	})
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, cells) {
		t.Errorf("got\n%+v\nwant\n%+v", got, cells)
	}
	if err := os.WriteFile(filepath.Join(dir, "other.jsonl"), []byte(`{"kind":"client"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "other.jsonl:1: ") {
		t.Errorf("got the error %v for a cell without its fields", err)
	}
}

func TestCheck(t *testing.T) {
	for name, edit := range map[string]func(c *Cell){
		"kind":                    func(c *Cell) { c.Kind = "neighbour" },
		"name":                    func(c *Cell) { c.Name = "" },
		"version":                 func(c *Cell) { c.Version = "" },
		"version with figures":    func(c *Cell) { c.Version = "1; 2" },
		"how":                     func(c *Cell) { c.How = "" },
		"control":                 func(c *Cell) { c.Control = "" },
		"transport":               func(c *Cell) { c.Transport = "SCTP" },
		"no transport":            func(c *Cell) { c.Transport = "" },
		"family":                  func(c *Cell) { c.Family = "IPv5" },
		"no family":               func(c *Cell) { c.Family = "" },
		"column in the figures":   func(c *Cell) { c.Figures = "1 | 2" },
		"line in the control":     func(c *Cell) { c.Control = "1\n2" },
		"space at the name's end": func(c *Cell) { c.Name += " " },
	} {
		c := cells[0]
		if err := c.check(); err != nil {
			t.Fatal(err)
		}
		edit(&c)
		if c.check() == nil {
			t.Errorf("%s: no error for %+v", name, c)
		}
	}
}
