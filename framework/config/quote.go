package config

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

const (
	tabWidth   = 4   // columns of a tab in the source
	quoteWidth = 100 // columns of the source line that are shown
)

// cell is a column of a quoted line.
type cell struct {
	r      rune
	marked bool // under the diagnostic's subject
}

// quote returns the line on which rng starts and, for the line below, the carets under rng. Secrets are masked. With
// namesOnly, what follows rng is left out. It returns false if the source is not known.
func (s *sources) quote(rng hcl.Range, namesOnly bool) (line, carets string, ok bool) {
	src, ok := s.text[rng.Filename]
	if !ok || rng.Start.Line == 0 || rng.Start.Byte > len(src) {
		return "", "", false
	}
	start := bytes.LastIndexByte(src[:rng.Start.Byte], '\n') + 1
	end := len(src)
	if i := bytes.IndexByte(src[start:], '\n'); i >= 0 {
		end = start + i
	}
	end -= len(src[start:end]) - len(bytes.TrimRight(src[start:end], "\r"))

	hidden := s.hiddenIn(rng.Filename, start, end)
	markEnd := max(rng.End.Byte, rng.Start.Byte+1)
	var cells []cell
	put := func(text string, marked bool) {
		for _, r := range text {
			cells = append(cells, cell{r, marked})
		}
	}
	for at := start; at < end; {
		marked := at >= rng.Start.Byte && at < markEnd
		if namesOnly && at >= markEnd {
			if len(bytes.TrimSpace(src[at:end])) > 0 {
				put(" …", false)
			}
			break
		}
		if len(hidden) > 0 && at >= hidden[0].start {
			marked = rng.Start.Byte < hidden[0].end && markEnd > hidden[0].start
			put("[redacted]", marked)
			at = hidden[0].end
			hidden = hidden[1:]
			continue
		}
		r, size := utf8.DecodeRune(src[at:end])
		switch {
		case r == '\t':
			put(strings.Repeat(" ", tabWidth), marked)
		case !visible(r):
			put("·", marked)
		default:
			put(string(r), marked)
		}
		at += size
	}
	if !slices.ContainsFunc(cells, func(c cell) bool { return c.marked }) {
		cells = append(cells, cell{' ', true}) // the place is the end of the line
	}
	line, carets = draw(window(cells))
	return line, carets, true
}

// window cuts a line that is too wide down to the part with the first mark.
func window(cells []cell) []cell {
	if len(cells) <= quoteWidth {
		return cells
	}
	first := slices.IndexFunc(cells, func(c cell) bool { return c.marked })
	from := max(0, min(first-quoteWidth/3, len(cells)-quoteWidth))
	cut := slices.Clone(cells[from : from+quoteWidth])
	if from > 0 {
		cut[0].r = '…'
	}
	if from+quoteWidth < len(cells) {
		cut[len(cut)-1].r = '…'
	}
	return cut
}

func draw(cells []cell) (line, carets string) {
	var text, marks strings.Builder
	for _, c := range cells {
		text.WriteRune(c.r)
		if c.marked {
			marks.WriteByte('^')
		} else {
			marks.WriteByte(' ')
		}
	}
	return strings.TrimRight(text.String(), " "), strings.TrimRight(marks.String(), " ")
}

func visible(r rune) bool { return unicode.IsPrint(r) && r != utf8.RuneError }
