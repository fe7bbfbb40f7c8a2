package metadata

import (
	"fmt"
	"strconv"
	"strings"
)

// Get is the GETMETADATA command (RFC 5464 section 4.2).
type Get struct {
	Mailbox string   // the server's annotations if empty
	MaxSize *uint32  // longer values are left out (section 4.2.1), in octets; nil if not given
	Depth   Depth    // section 4.2.2
	Names   []string // the entries asked for, in lower case, each once
	// OptionsLast is true if options came after the mailbox, as in the RFC's examples, and not before it, as in its grammar and errata
	// 2785 and 2786.
	OptionsLast bool
}

// ParseGet parses the arguments of GETMETADATA: args begins with the space after the command's name and ends with the line end, including
// literals. It accepts options before or after the mailbox, each once. An empty list of entries, which the grammar does not allow, asks
// for nothing. The text of an error is suitable for a tagged BAD.
func ParseGet(args []byte) (Get, error) {
	d := decoder{b: args}
	var g Get
	var depth bool
	options := func() {
		d.list(func() {
			switch name := strings.ToUpper(d.atom()); {
			case d.err != nil:
			case name == "MAXSIZE" && g.MaxSize == nil:
				d.spaces()
				g.MaxSize = new(uint32)
				*g.MaxSize = d.number()
			case name == "DEPTH" && !depth:
				d.spaces()
				depth = true
				g.Depth = d.depth()
			case name == "MAXSIZE" || name == "DEPTH":
				d.fail("option %s given twice", name)
			default:
				d.fail("unknown option")
			}
		})
	}
	d.spaces()
	if d.special('(') {
		options()
		d.spaces()
	}
	g.Mailbox = d.astring()
	d.spaces()
	switch {
	case !d.special('('):
		g.Names = []string{d.astring()}
	case isOption(d.peek()):
		g.OptionsLast = true
		options()
		d.spaces()
		if d.special('(') {
			g.Names = d.names()
		} else {
			g.Names = []string{d.astring()}
		}
	default:
		g.Names = d.names()
	}
	d.crlf()
	if d.err != nil {
		return Get{}, d.err
	}
	return g, g.normalise()
}

// isOption tells a list of options from a list of entries by the first byte: an option begins with a letter, an entry
// with "/", a quote or a literal.
func isOption(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (d *decoder) depth() Depth {
	switch word := d.atom(); {
	case word == "0":
		return DepthZero
	case word == "1":
		return DepthOne
	case strings.EqualFold(word, "infinity"):
		return DepthInfinity
	}
	d.fail("DEPTH is none of 0, 1 and infinity")
	return DepthZero
}

// list reads a list whose opening parenthesis has been consumed. item reads one of its items.
func (d *decoder) list(item func()) {
	d.skipSpaces()
	for d.err == nil && !d.special(')') {
		item()
		if d.peek() != ')' {
			d.spaces()
		}
	}
}

// names returns the list whose opening parenthesis has been consumed.
func (d *decoder) names() []string {
	var names []string
	d.list(func() { names = append(names, d.astring()) })
	return names
}

// normalise checks the names and makes them lower case and unique.
func (g *Get) normalise() error {
	seen := make(map[string]struct{}, len(g.Names))
	names := g.Names[:0]
	for _, name := range g.Names {
		if err := CheckPrefix(name); err != nil {
			return err
		}
		name = strings.ToLower(name)
		if _, ok := seen[name]; !ok {
			seen[name] = struct{}{}
			names = append(names, name)
		}
	}
	g.Names = names
	return nil
}

// Append appends the command with tag to b, options first, entries as a list. Literals in it are synchronising ones.
func (g Get) Append(b []byte, tag string) []byte {
	b = fmt.Appendf(b, "%s GETMETADATA ", tag)
	switch {
	case g.MaxSize != nil && g.Depth != DepthZero:
		b = fmt.Appendf(b, "(MAXSIZE %d DEPTH %v) ", *g.MaxSize, g.Depth)
	case g.MaxSize != nil:
		b = fmt.Appendf(b, "(MAXSIZE %d) ", *g.MaxSize)
	case g.Depth != DepthZero:
		b = fmt.Appendf(b, "(DEPTH %v) ", g.Depth)
	}
	b = AppendString(b, g.Mailbox)
	b = append(b, " ("...)
	for i, name := range g.Names {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendName(b, name)
	}
	return append(b, ")\r\n"...)
}

// AppendLongEntries appends the response code that tells the size of the largest value which MAXSIZE kept out (RFC 5464
// section 4.2.1).
func AppendLongEntries(b []byte, size uint64) []byte {
	b = append(b, "[METADATA LONGENTRIES "...)
	b = strconv.AppendUint(b, size, 10)
	return append(b, ']')
}
