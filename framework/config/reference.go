package config

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/mitchellh/go-wordwrap"
)

// Section is a part of the reference.
type Section struct {
	Header string // of the block, as HCL has it, such as `endpoint "turn" "NAME"`; empty for the top level
	Doc    string
	Target any // a struct that Decode can fill, or a pointer to one
}

// An AttributeReference is what the reference says of an attribute.
type AttributeReference struct {
	Name  string
	Value string // its type, bounds and default, in words
	Doc   string // may be empty
}

// A BlockReference is what the reference says of a block, or of the top level of the file.
type BlockReference struct {
	Header     string // as Section has it
	Doc        string
	Attributes []AttributeReference
	Blocks     []BlockReference
}

// Reference returns the documentation of the section, from the tags of its fields:
//
//	doc:"…"                    what the attribute or block means
//	default:"…", otherwise:"…" the value when it is not set
//	min:"…", max:"…"           the bounds of its value
//	reload:"restart"           a change requires a restart
//	type:"…"                   what it holds, where the Go type does not say it
func (s Section) Reference() BlockReference {
	t := reflect.TypeOf(s.Target)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return blockReference(s.Header, s.Doc, t)
}

func blockReference(header, doc string, t reflect.Type) BlockReference {
	b := BlockReference{Header: header, Doc: doc}
	for _, f := range fieldsOf(t) {
		switch f.role {
		case attributeField:
			b.Attributes = append(b.Attributes, AttributeReference{Name: f.name, Value: f.valueText(), Doc: f.docText()})
		case blockField:
			header := f.name
			for _, inner := range fieldsOf(f.typ) {
				if inner.role == labelField {
					header += fmt.Sprintf(" %q", strings.ToUpper(inner.name))
				}
			}
			doc := f.docText()
			if f.repeated {
				doc += " Can be repeated."
			}
			b.Blocks = append(b.Blocks, blockReference(header, doc, f.typ))
		}
	}
	return b
}

// Name is the name by which the reference finds the block: the kind of an endpoint, or the type of another block. It is empty for
// the top level.
func (b BlockReference) Name() string {
	words := strings.Fields(b.Header)
	switch {
	case len(words) == 0:
		return ""
	case words[0] == "endpoint":
		return strings.Trim(words[1], `"`)
	}
	return words[0]
}

// Reference prints every attribute of blocks with its type, default and meaning. The text is at most 80 columns wide, unless a name
// or a default is longer.
func Reference(w io.Writer, blocks ...BlockReference) error {
	out := bufio.NewWriter(w)
	for i, b := range blocks {
		if i > 0 {
			out.WriteByte('\n')
		}
		r := reference{out: out}
		if b.Header == "" {
			r.paragraph(b.Doc)
			r.content(b)
		} else {
			r.block(b)
		}
	}
	return out.Flush()
}

const (
	referenceWidth  = 80
	referenceIndent = "  "
)

type reference struct {
	out    *bufio.Writer
	indent string
}

func (r reference) block(b BlockReference) {
	fmt.Fprintf(r.out, "%s%s {\n", r.indent, b.Header)
	inner := reference{out: r.out, indent: r.indent + referenceIndent}
	inner.paragraph(b.Doc)
	inner.content(b)
	fmt.Fprintf(r.out, "%s}\n", r.indent)
}

// content prints the attributes of b, then its blocks.
func (r reference) content(b BlockReference) {
	column := 0
	for _, a := range b.Attributes {
		column = max(column, len(a.Name)+2)
	}
	for _, a := range b.Attributes {
		r.hanging(fmt.Sprintf("%-*s", column, a.Name), a.Value)
		if a.Doc != "" {
			r.hanging(strings.Repeat(" ", column), a.Doc)
		}
	}
	for _, inner := range b.Blocks {
		r.out.WriteByte('\n')
		r.block(inner)
	}
}

// valueText is what an attribute holds: its type, bounds and default, in words.
func (f field) valueText() string {
	words := cmp.Or(f.typeWords, describe(f.typ).word)
	if bounds := f.bounds(); bounds != "" {
		words += ", " + bounds
	}
	if text := f.defaultText(); text != "" {
		words += ", default " + text
	}
	return words
}

// defaultText is the value of an attribute that is not set, in words.
func (f field) defaultText() string {
	if f.defaultsTo != "" && f.typ.Kind() == reflect.Slice {
		return strings.Join(strings.Fields(f.defaultsTo), " and ")
	}
	return cmp.Or(f.defaultsTo, f.otherwise)
}

func (f field) docText() string {
	if f.restart {
		return strings.TrimSpace(f.doc + " A change requires a restart.")
	}
	return f.doc
}

func (r reference) paragraph(text string) {
	if text != "" {
		r.hanging("", text)
		r.out.WriteByte('\n')
	}
}

// hanging prints text after first, and aligns its further lines with its beginning.
func (r reference) hanging(first, text string) {
	width := max(30, referenceWidth-len(r.indent)-len(first))
	for line := range strings.SplitSeq(wordwrap.WrapString(text, uint(width)), "\n") {
		r.out.WriteString(strings.TrimRight(r.indent+first+line, " ") + "\n")
		first = strings.Repeat(" ", len(first))
	}
}
