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

// Section is one part of the reference.
type Section struct {
	Header string // of the block, as HCL has it, such as `endpoint "turn" "NAME"`; empty for the top level
	Doc    string
	Target any // a struct that Decode can fill, or a pointer to one
}

// Reference prints every attribute of sections with its type, default and meaning, from the tags of their fields:
//
//	doc:"…"                    what the attribute or block means
//	default:"…", otherwise:"…" the value when it is not set
//	min:"…", max:"…"           the bounds of its value
//	reload:"restart"           a change requires a restart
//	type:"…"                   what it holds, where the Go type does not say it
//
// The text is at most 80 columns wide, unless a name or a default is longer.
func Reference(w io.Writer, sections ...Section) error {
	out := bufio.NewWriter(w)
	for i, section := range sections {
		if i > 0 {
			out.WriteByte('\n')
		}
		t := reflect.TypeOf(section.Target)
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		r := reference{out: out}
		if section.Header == "" {
			r.paragraph(section.Doc)
			r.fields(t)
		} else {
			r.block(section.Header, section.Doc, t)
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

func (r reference) block(header, doc string, t reflect.Type) {
	fmt.Fprintf(r.out, "%s%s {\n", r.indent, header)
	inner := reference{out: r.out, indent: r.indent + referenceIndent}
	inner.paragraph(doc)
	inner.fields(t)
	fmt.Fprintf(r.out, "%s}\n", r.indent)
}

// fields prints the attributes of t, then its blocks.
func (r reference) fields(t reflect.Type) {
	fields := fieldsOf(t)
	column := 0
	for _, f := range fields {
		if f.role == attributeField {
			column = max(column, len(f.name)+2)
		}
	}
	for _, f := range fields {
		if f.role == attributeField {
			words := f.typeWords
			if words == "" {
				words = describe(f.typ).word
			}
			if bounds := f.bounds(); bounds != "" {
				words += ", " + bounds
			}
			if text := f.defaultText(); text != "" {
				words += ", default " + text
			}
			r.hanging(fmt.Sprintf("%-*s", column, f.name), words)
			if doc := f.docText(); doc != "" {
				r.hanging(strings.Repeat(" ", column), doc)
			}
		}
	}
	for _, f := range fields {
		if f.role == blockField {
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
			r.out.WriteByte('\n')
			r.block(header, doc, f.typ)
		}
	}
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

// hanging prints text after first, and its further lines below its beginning.
func (r reference) hanging(first, text string) {
	width := max(30, referenceWidth-len(r.indent)-len(first))
	for line := range strings.SplitSeq(wordwrap.WrapString(text, uint(width)), "\n") {
		r.out.WriteString(strings.TrimRight(r.indent+first+line, " ") + "\n")
		first = strings.Repeat(" ", len(first))
	}
}
