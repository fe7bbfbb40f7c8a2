package directive

import (
	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// maxBlocks bounds how deeply blocks of directives may be nested, as in maddy.
const maxBlocks = 255

// directive is one statement: a name, arguments, and an optional block.
type directive struct {
	name     word
	args     []word
	hasBlock bool
	block    []*directive
	end      hcl.Range // of the last word, which is } after a block
}

// header returns the place of the name and the arguments.
func (d *directive) header() hcl.Range {
	if len(d.args) == 0 {
		return d.name.rng
	}
	return hcl.RangeBetween(d.name.rng, d.args[len(d.args)-1].rng)
}

// parse reads the statements of one file. After an error it continues to find others, and the statements must not be used.
func parse(words []word) ([]*directive, hcl.Diagnostics) {
	p := parser{words: words}
	directives := p.block(nil)
	return directives, p.diags
}

type parser struct {
	words []word // a line end is the last
	depth int
	ended bool // with open blocks, which was reported
	diags hcl.Diagnostics
}

func (p *parser) done() bool { return len(p.words) == 0 }

func (p *parser) take() word {
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

// block reads statements up to the brace that closes the block of opener, and keeps its place in opener.end. Without an
// opener it reads to the end of the file.
func (p *parser) block(opener *directive) []*directive {
	var directives []*directive
	for !p.done() {
		switch w := p.words[0]; {
		case w.lineEnd():
			p.take()
		case w.is("}"):
			p.take()
			if opener != nil {
				opener.end = w.rng
				p.endOfLine("}")
				return directives
			}
			p.errorf(w.rng, "Unmatched closing brace", "No block is open here.")
		case w.is("{"):
			p.errorf(w.rng, "Opening brace without a directive", "{ belongs at the end of the line of the directive whose block it opens.")
			p.skipLine()
		default:
			directives = append(directives, p.directive())
		}
	}
	if opener != nil && !p.ended {
		p.ended = true
		p.errorf(opener.header(), "Block is not closed", "The block that begins here has no } before the end of the file.")
	}
	return directives
}

func (p *parser) directive() *directive {
	name := p.take()
	d := &directive{name: name, end: name.rng}
	for !p.done() {
		w := p.words[0]
		switch {
		case w.lineEnd(), w.is("}"):
			return d
		case w.is("{"):
			p.take()
			d.hasBlock = true
			p.endOfLine("{")
			if p.depth == maxBlocks {
				p.errorf(w.rng, "Nested too deeply", "Blocks are nested more than %d levels deep.", maxBlocks)
				p.words, p.ended = nil, true
				return d
			}
			p.depth++
			d.block = p.block(d)
			p.depth--
			return d
		}
		p.take()
		d.args = append(d.args, w)
		d.end = w.rng
	}
	return d
}

// endOfLine checks that nothing but a closing brace follows a brace on its line.
func (p *parser) endOfLine(brace string) {
	if p.done() || p.words[0].lineEnd() || p.words[0].is("}") {
		return
	}
	p.errorf(p.words[0].rng, "Text after a brace", "%s must be the last on its line; what follows starts on a new line.", brace)
}

func (p *parser) skipLine() {
	for !p.done() && !p.words[0].lineEnd() {
		p.take()
	}
}

func (p *parser) errorf(rng hcl.Range, summary, format string, args ...any) {
	p.diags = append(p.diags, diagnostic.Errorf(rng, summary, format, args...))
}
