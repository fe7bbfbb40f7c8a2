package directive

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// word is one token of the directive syntax.
type word struct {
	text   string
	quoted bool // in quotation marks, so that { is not a brace
	rng    hcl.Range
}

// is reports whether w is the punctuation s.
func (w word) is(s string) bool { return !w.quoted && w.text == s }

// lineEnd reports whether w ends a line. It is the only word without text that is not quoted.
func (w word) lineEnd() bool { return w.is("") }

// lex splits src into words and line ends; the last one is a line end. It reads as maddy does:
//
//   - words are separated by white space, and a carriage return is skipped;
//   - a word that begins with a quotation mark ends at the next, over line breaks if need be; \" in it is a quotation mark,
//     and no other escape exists;
//   - # begins a comment, also inside a word, which gets a warning;
//   - a backslash that is the last word of its line continues the line on the next.
func lex(filename string, src []byte) ([]word, hcl.Diagnostics) {
	l := lexer{src: string(src), pos: hcl.InitialPos, filename: filename}
	if bom := "\ufeff"; strings.HasPrefix(l.src, bom) {
		l.pos.Byte += len(bom)
	}
	for l.pos.Byte < len(l.src) {
		l.next()
	}
	l.endLine(l.pos)
	if n := len(l.words); n == 0 || !l.words[n-1].lineEnd() {
		l.endLine(l.pos) // the file ended in a backslash
	}
	return l.words, l.diags
}

type lexer struct {
	src      string
	filename string
	pos      hcl.Pos // Column counts characters
	words    []word
	line     int // words before this line
	diags    hcl.Diagnostics
}

// next reads white space, a comment, a line end or a word.
func (l *lexer) next() {
	start := l.pos
	switch r := l.read(); {
	case r == '\n':
		l.endLine(start)
	case unicode.IsSpace(r):
	case r == '#':
		l.comment()
	case r == '"':
		l.quoted(start)
	default:
		l.pos = start
		l.bare()
	}
}

// read consumes the next character and returns it.
func (l *lexer) read() rune {
	r, size := utf8.DecodeRuneInString(l.src[l.pos.Byte:])
	if r == utf8.RuneError && size == 1 {
		end := l.pos
		end.Byte, end.Column = end.Byte+1, end.Column+1
		l.diags = append(l.diags, diagnostic.Errorf(hcl.Range{Filename: l.filename, Start: l.pos, End: end},
			"Not UTF-8", "Byte 0x%02x does not start a UTF-8 character.", l.src[l.pos.Byte]))
		l.pos.Byte = len(l.src) // the rest is likely of another encoding, too
		return ' '
	}
	l.pos.Byte += size
	l.pos.Column++
	if r == '\n' {
		l.pos.Line, l.pos.Column = l.pos.Line+1, 1
	}
	return r
}

func (l *lexer) peek() rune {
	r, _ := utf8.DecodeRuneInString(l.src[l.pos.Byte:])
	return r
}

func (l *lexer) from(start hcl.Pos) hcl.Range {
	return hcl.Range{Filename: l.filename, Start: start, End: l.pos}
}

// endLine ends a line at the end of the file or before a line break, unless the line is continued.
func (l *lexer) endLine(start hcl.Pos) {
	n := len(l.words)
	if n > l.line && l.words[n-1].is(`\`) {
		l.words = l.words[:n-1]
	} else {
		l.words = append(l.words, word{rng: hcl.Range{Filename: l.filename, Start: start, End: start}})
	}
	l.line = len(l.words)
}

func (l *lexer) comment() {
	for l.pos.Byte < len(l.src) && l.peek() != '\n' {
		l.read()
	}
}

func (l *lexer) quoted(start hcl.Pos) {
	var text strings.Builder
	for l.pos.Byte < len(l.src) {
		switch r := l.read(); {
		case r == '"':
			l.words = append(l.words, word{text: text.String(), quoted: true, rng: l.from(start)})
			return
		case r == '\\' && l.pos.Byte < len(l.src):
			if escaped := l.read(); escaped == '"' {
				text.WriteRune(escaped)
			} else {
				text.WriteRune(r)
				text.WriteRune(escaped)
			}
		default:
			text.WriteRune(r)
		}
	}
	if !l.diags.HasErrors() { // of a byte that is not UTF-8, where reading ends
		l.diags = append(l.diags, diagnostic.Errorf(hcl.Range{Filename: l.filename, Start: start, End: start},
			"Quotation mark is not closed", "The text that begins here extends to the end of the file."))
	}
}

func (l *lexer) bare() {
	start := l.pos
	var text strings.Builder
	for l.pos.Byte < len(l.src) && l.peek() != '#' && (l.peek() == '\r' || !unicode.IsSpace(l.peek())) {
		if r := l.read(); r != '\r' {
			text.WriteRune(r)
		}
	}
	if text.Len() == 0 {
		return
	}
	l.words = append(l.words, word{text: text.String(), rng: l.from(start)})
	if comment := l.pos; l.pos.Byte < len(l.src) && l.peek() == '#' {
		l.comment()
		l.diags = append(l.diags, diagnostic.WithHint(
			diagnostic.Warnf(l.from(comment), "Comment inside a word", "# starts a comment here, so the word ends before it."),
			"put the word in quotation marks if # is part of it"))
	}
}
