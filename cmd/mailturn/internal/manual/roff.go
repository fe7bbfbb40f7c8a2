package manual

import (
	"fmt"
	"strings"
)

// roff is an unfinished page in the macros of man(7), which both man-db and mandoc understand.
type roff struct{ strings.Builder }

// escaper escapes what roff would turn into typographic characters or take for markup. A hyphen becomes a minus sign, which
// terminals show as the character on the keyboard.
var escaper = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`)

// escape returns text escaped for a line. At the start of a line, a full stop would begin a macro.
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

// line writes a line of text that is already escaped.
func (r *roff) line(escaped string) { r.WriteString(escaped + "\n") }

// item writes an entry of a list: its title, which is already escaped, and its text.
func (r *roff) item(title, text string) {
	r.macro("TP")
	r.line(title)
	r.line(escape(text))
}

const bullet = "  - "

// text writes paragraphs of help text for terminals, separated by empty lines. Lines are filled, except those that are indented or
// have columns. Lines that begin with a hyphen form a list.
func (r *roff) text(text string) {
	kept, listed := false, false // whether the previous line was a kept line, or part of a list
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
