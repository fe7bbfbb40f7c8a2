package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// client is one cell of docs/interop.md: a program of somebody else that moved data through the relay.
type client struct {
	name      string // such as Chromium
	version   string
	discovery string // how it came by the relay's address and credential
	transport string // UDP, TCP, TLS or DTLS, between client and relay
	family    string // IPv4 or IPv6, between client and relay
}

// Ways of discovery.
const (
	overMetadata   = "IMAP METADATA"
	bySharedSecret = "shared secret" // the credential is minted as the TURN REST API has it
)

// interop holds what record was told.
var interop struct {
	mu    sync.Mutex
	cells map[client]string // guarded by mu: the figures
}

// record puts a client into the table unless the test has failed. It is called after all that the cell stands for was
// seen to work; figures are what was measured, such as loss, and may be empty.
func record(t *testing.T, c client, figures string) {
	t.Helper()
	if t.Failed() {
		return
	}
	if c.name == "" || c.version == "" || c.discovery == "" || c.transport == "" || c.family == "" {
		t.Fatalf("a cell without all of its fields: %+v", c)
	}
	interop.mu.Lock()
	defer interop.mu.Unlock()
	if interop.cells == nil {
		interop.cells = make(map[client]string)
	}
	interop.cells[c] = figures
}

const interopIntroduction = `# Which clients connect

Each cell is a client of somebody else that moved data through mailturn's relay in the end-to-end tests, over that transport
and address family between client and relay, with what the client's way of discovery gave it. In parentheses: the client's
version, and what the run measured. An empty cell was not tried. Each test has controls that must not connect, such as a
wrong secret. This file is written by

    MAILTURN_E2E=1 MAILTURN_INTEROP=$PWD/docs/interop.md go test -count=1 ./cmd/mailturn/e2e

and CI fails when a run has other cells than this file.

`

// interopTable is docs/interop.md. It depends on nothing but the cells and their figures.
func interopTable(cells map[client]string) string {
	type row struct{ name, discovery string }
	type column struct{ transport, family string }
	rows, columns := make(map[row]bool), make(map[column]bool)
	content := make(map[row]map[column]string)
	for c, figures := range cells {
		r, col := row{c.name, c.discovery}, column{c.transport, c.family}
		rows[r], columns[col] = true, true
		if content[r] == nil {
			content[r] = make(map[column]string)
		}
		inside := c.version
		if figures != "" {
			inside += "; " + figures
		}
		content[r][col] = "works (" + inside + ")"
	}
	sortedRows := slices.SortedFunc(maps.Keys(rows), func(a, b row) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.discovery, b.discovery))
	})
	order := []string{"UDP", "TCP", "TLS", "DTLS"}
	sortedColumns := slices.SortedFunc(maps.Keys(columns), func(a, b column) int {
		return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(slices.Index(order, a.transport), slices.Index(order, b.transport)))
	})

	var out strings.Builder
	out.WriteString(interopIntroduction + "| client | discovery |")
	for _, col := range sortedColumns {
		fmt.Fprintf(&out, " %s, %s |", col.transport, col.family)
	}
	out.WriteString("\n|" + strings.Repeat(" --- |", 2+len(sortedColumns)) + "\n")
	for _, r := range sortedRows {
		fmt.Fprintf(&out, "| %s | %s |", r.name, r.discovery)
		for _, col := range sortedColumns {
			fmt.Fprintf(&out, " %s |", content[r][col])
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// writeInterop writes the table to the file that MAILTURN_INTEROP names, after the tests.
func writeInterop() error {
	file := os.Getenv("MAILTURN_INTEROP")
	if file == "" {
		return nil
	}
	interop.mu.Lock()
	defer interop.mu.Unlock()
	return os.WriteFile(file, []byte(interopTable(interop.cells)), 0o644)
}

// programVersion is the first thing in a program's output that looks like a version.
func programVersion(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	v := regexp.MustCompile(`\d+(\.\d+)+(esr)?`).FindString(string(out))
	if v == "" {
		t.Fatalf("no version in what %s %s says (%v): %s", program, strings.Join(args, " "), err, out)
	}
	return v
}

func TestInteropTable(t *testing.T) {
	cells := map[client]string{
		{"Firefox", "153.7", overMetadata, "TLS", "IPv4"}:      "0 of 12 lost",
		{"Chromium", "156.0", overMetadata, "UDP", "IPv6"}:     "",
		{"Chromium", "156.0", overMetadata, "UDP", "IPv4"}:     "0 of 10 lost",
		{"Chromium", "156.0", bySharedSecret, "TCP", "IPv4"}:   "",
		{"turnutils", "4.6.1", bySharedSecret, "DTLS", "IPv4"}: "",
	}
	const want = `| client | discovery | UDP, IPv4 | TCP, IPv4 | TLS, IPv4 | DTLS, IPv4 | UDP, IPv6 |
| --- | --- | --- | --- | --- | --- | --- |
| Chromium | IMAP METADATA | works (156.0; 0 of 10 lost) |  |  |  | works (156.0) |
| Chromium | shared secret |  | works (156.0) |  |  |  |
| Firefox | IMAP METADATA |  |  | works (153.7; 0 of 12 lost) |  |  |
| turnutils | shared secret |  |  |  | works (4.6.1) |  |
`
	if got := strings.TrimPrefix(interopTable(cells), interopIntroduction); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
