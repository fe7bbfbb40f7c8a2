package manual

import (
	"fmt"
	"strings"
)

// roff is a page in the making, in the macros of man(7), which man-db and mandoc both read.
type roff struct{ strings.Builder }

// escaper keeps what roff would make typographic or take for markup. A hyphen becomes a minus sign, which terminals show as the
// character that one types.
var escaper = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`)

// escape returns text as it stands in a line. A full stop would begin a macro at the start of one.
func escape(text string) string {
	text = escaper.Replace(text)
	if strings.HasPrefix(text, ".") {
		return `\&` + text
	}
	return text
}

func bold(text string) string   { return `\fB` + escape(text) + `\fR` }
func italic(text string) string { return `\fI` + escape(text) + `\fR` }

// macro writes a line with a macro. The arguments are plain text.
func (r *roff) macro(name string, arguments ...string) {
	r.WriteString("." + name)
	for _, argument := range arguments {
		fmt.Fprintf(r, ` "%s"`, strings.ReplaceAll(escape(argument), `"`, `\(dq`))
	}
	r.WriteByte('\n')
}

// line writes a line of text that is escaped already.
func (r *roff) line(escaped string) { r.WriteString(escaped + "\n") }

// item writes an entry of a list: its title, which is escaped already, and what there is to say of it.
func (r *roff) item(title, text string) {
	r.macro("TP")
	r.line(title)
	r.line(escape(text))
}

const bullet = "  - "

// text writes paragraphs as commands have them for the terminal, with empty lines between them. Lines are filled, but those that
// are indented, or have columns, stay as they are. Lines that begin with a hyphen are a list.
func (r *roff) text(text string) {
	kept, listed := false, false // whether the line before was a kept line, or one of a list
	keep := func(keep bool) {
		if keep != kept {
			r.macro(map[bool]string{true: "nf", false: "fi"}[keep])
		}
		kept = keep
	}
	between := true // two paragraphs
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" {
			between = true
			continue
		}
		item, isItem := strings.CutPrefix(line, bullet)
		continues := listed && !between && strings.HasPrefix(line, strings.Repeat(" ", len(bullet)))
		switch {
		case isItem:
			keep(false)
			r.line(`.IP \(bu 2`)
			r.line(escape(item))
		case continues:
			r.line(escape(trimmed))
		default:
			columns := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") || strings.Contains(trimmed, "  ")
			if between || listed {
				keep(false)
				r.macro("PP")
			}
			keep(columns)
			r.line(escape(strings.ReplaceAll(line, "\t", "    ")))
		}
		listed, between = isItem || continues, false
	}
	keep(false)
}
