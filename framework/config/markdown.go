package config

import (
	"bufio"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
)

// ReferenceMarkdown prints every attribute of blocks as Reference does, but as sections of a Markdown document: a heading of the
// second level for each of blocks, or of the third level for a block within them, and a table of its attributes. An inner block
// that has already been printed elsewhere, such as tls in several endpoints, is a link to that place.
func ReferenceMarkdown(w io.Writer, blocks ...BlockReference) error {
	out := bufio.NewWriter(w)
	m := markdown{out: out}
	for _, b := range blocks {
		title := b.Header
		if title == "" {
			title = "The top level"
		}
		m.section("##", title, b.Name(), b)
	}
	return out.Flush()
}

type markdown struct {
	out     *bufio.Writer
	printed []printedBlock
}

// A printedBlock is a block with the heading under which it was printed.
type printedBlock struct {
	title string
	block BlockReference
}

// section prints b under a title. path names the block in the titles of those within it; it is empty for the top level.
func (m *markdown) section(level, title, path string, b BlockReference) {
	m.printed = append(m.printed, printedBlock{title, b})
	fmt.Fprintf(m.out, "\n%s %s\n\n", level, title)
	if b.Doc != "" {
		fmt.Fprintf(m.out, "%s\n\n", escapeMarkdown(b.Doc))
	}
	if len(b.Attributes) > 0 {
		m.out.WriteString("| attribute | value | meaning |\n| --- | --- | --- |\n")
		for _, a := range b.Attributes {
			fmt.Fprintf(m.out, "| `%s` | %s | %s |\n", a.Name, escapeMarkdown(a.Value), escapeMarkdown(a.Doc))
		}
	}
	for _, inner := range b.Blocks {
		title, within := inner.Header, inner.Name()
		if path != "" {
			title, within = title+" in "+path, within+" in "+path
		}
		if earlier, ok := m.find(inner); ok {
			fmt.Fprintf(m.out, "\nThe block `%s` is the same as [%s](#%s).\n", inner.Header, earlier, fragment(earlier))
			continue
		}
		if path == "" {
			m.section("##", title, within, inner)
		} else {
			m.section("###", title, within, inner)
		}
	}
}

// find returns the title of a block with the same name and contents that has been printed.
func (m *markdown) find(b BlockReference) (title string, ok bool) {
	for _, p := range m.printed {
		if p.block.Header == b.Header && reflect.DeepEqual(p.block.Attributes, b.Attributes) && reflect.DeepEqual(p.block.Blocks, b.Blocks) {
			return p.title, true
		}
	}
	return "", false
}

var identifier = regexp.MustCompile(`\$?\b\w+_\w+\b`)

// escapeMarkdown returns text so that Markdown shows it literally, also in the cell of a table. Words with an underscore, such as the
// names of attributes, become code.
func escapeMarkdown(text string) string {
	escape := strings.NewReplacer(`\`, `\\`, `*`, `\*`, "`", "\\`", `|`, `\|`, `<`, `\<`, `[`, `\[`)
	return identifier.ReplaceAllString(escape.Replace(text), "`$0`")
}

// fragment returns the fragment by which forges link to a heading: in lower case, with hyphens for spaces, and without other
// punctuation.
func fragment(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, strings.ToLower(title))
}
