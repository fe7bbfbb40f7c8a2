// Package interop holds the results of the end-to-end tests with other programs: which of them work with mailturn, and how that
// was seen. The tests record cells, and docs/interop.md shows them.
package interop

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kind is what a program is to mailturn. Each kind has a table of its own.
type Kind string

// Kinds of programs.
const (
	Client Kind = "client" // moves data through the relay
	Server Kind = "server" // is an IMAP server behind the proxy
	Door   Kind = "door"   // takes credentials from mailturn, or mints them with its secret, for clients of its own
	Recipe Kind = "recipe" // is configured as this project's documentation says
)

var kinds = []Kind{Client, Server, Door, Recipe}

// Columns of the clients' table: between client and relay.
var (
	transports = []string{"UDP", "TCP", "TLS", "DTLS"}
	families   = []string{"IPv4", "IPv6"}
)

// Cell is one thing that a test has seen another program do.
type Cell struct {
	Kind    Kind   `json:"kind"`
	Name    string `json:"name"`    // of the program, such as Chromium; of a recipe, the heading that it stands under
	Version string `json:"version"` // of the program
	// How the client got its credential, what the server or door was made to do, or what was done with the recipe. Versions
	// are in parentheses, such as "IMAP METADATA, by Delta Chat core (2.62.0)".
	How       string `json:"how"`
	Transport string `json:"transport,omitempty"` // UDP, TCP, TLS or DTLS; clients have one
	Family    string `json:"family,omitempty"`    // IPv4 or IPv6; clients have one
	Figures   string `json:"figures,omitempty"`   // what was measured, such as loss
	// Control is what has to fail, and does so in a test: "wrong secret". Semicolons separate several.
	Control string `json:"control"`
}

// key is what makes two cells the same one. How is without its versions.
type key struct {
	kind                         Kind
	name, how, transport, family string
}

func (c Cell) key() key {
	return key{c.Kind, c.Name, withoutVersions(c.How), c.Transport, c.Family}
}

var parenthesised = regexp.MustCompile(` ?\([^()]*\)`)

func withoutVersions(how string) string { return parenthesised.ReplaceAllString(how, "") }

// String names the cell without its version and figures.
func (c Cell) String() string {
	text := fmt.Sprintf("%s %s, %s", c.Kind, c.Name, withoutVersions(c.How))
	if over := c.over(); over != "" {
		text += ", over " + over
	}
	return text
}

// over is the cell's transport and family.
func (c Cell) over() string {
	return strings.Join(slices.DeleteFunc([]string{c.Transport, c.Family}, func(s string) bool { return s == "" }), ", ")
}

// check returns an error for a cell that the tables cannot show.
func (c Cell) check() error {
	if !slices.Contains(kinds, c.Kind) {
		return fmt.Errorf("unknown kind %q", c.Kind)
	}
	if c.Name == "" || c.Version == "" || c.How == "" || c.Control == "" {
		return errors.New("the name, the version, how, or the control is missing")
	}
	if c.Transport != "" && !slices.Contains(transports, c.Transport) {
		return fmt.Errorf("unknown transport %q", c.Transport)
	}
	if c.Family != "" && !slices.Contains(families, c.Family) {
		return fmt.Errorf("unknown address family %q", c.Family)
	}
	if c.Kind == Client && (c.Transport == "" || c.Family == "") {
		return errors.New("a client needs a transport and an address family")
	}
	for _, text := range []string{c.Name, c.Version, c.How, c.Figures, c.Control} {
		if strings.ContainsAny(text, "|\r\n") || strings.TrimSpace(text) != text {
			return fmt.Errorf("%q does not fit into a table", text)
		}
	}
	if strings.ContainsAny(c.Version, ";()") {
		return fmt.Errorf("the version %q contains a semicolon or a parenthesis", c.Version)
	}
	return nil
}

// compare is the order of the tables.
func (c Cell) compare(other Cell) int {
	return cmp.Or(
		cmp.Compare(slices.Index(kinds, c.Kind), slices.Index(kinds, other.Kind)),
		cmp.Compare(strings.ToLower(c.Name), strings.ToLower(other.Name)),
		cmp.Compare(c.How, other.How),
		cmp.Compare(c.Family, other.Family),
		cmp.Compare(slices.Index(transports, c.Transport), slices.Index(transports, other.Transport)),
	)
}

// Merge returns the cells of both, sorted. Of cells that differ in nothing but versions, figures and control, the last one
// stays.
func Merge(cells, newer []Cell) []Cell {
	last := make(map[key]Cell)
	for _, c := range slices.Concat(cells, newer) {
		last[c.key()] = c
	}
	var merged []Cell
	for _, c := range last {
		merged = append(merged, c)
	}
	slices.SortFunc(merged, Cell.compare)
	return merged
}
