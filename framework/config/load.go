package config

import (
	"fmt"
	"path/filepath"
	"reflect"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config/directive"
	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// Load reads and parses the configuration file of that name. The File is never nil, so that its WriteDiagnostics can print the
// diagnostics.
func Load(filename string) (*File, hcl.Diagnostics) {
	src, _, err := bounded.ReadFile(filename, bounded.MaxFile)
	if err != nil {
		return newFile(filename), hcl.Diagnostics{unreadable(filename, err)}
	}
	return Parse(filename, src)
}

func unreadable(filename string, err error) *hcl.Diagnostic {
	return Errorf(hcl.Range{Filename: filename}, "Configuration cannot be read", "%v.", diagnostic.Reason(err))
}

func newFile(name string) *File {
	return &File{Name: name, sources: &sources{
		text: make(map[string][]byte), schemas: make(map[string]any), named: make(map[string][]span),
	}}
}

// Parse parses src, which was read from the file of that name. Paths in it are relative to that file. The File is never
// nil and holds what could be read, even with errors.
//
// DetectSyntax decides whether src is HCL or directives.
func Parse(filename string, src []byte) (*File, hcl.Diagnostics) {
	f := newFile(filename)
	if len(src) > bounded.MaxFile {
		return f, hcl.Diagnostics{unreadable(filename, bounded.TooLarge(bounded.MaxFile))}
	}
	f.sources.text[filename] = src
	f.Syntax = DetectSyntax(src)

	var body hcl.Body
	var diags hcl.Diagnostics
	if f.Syntax == Directives {
		body, f.sources.text, diags = directive.Parse(filename, src)
	} else {
		body, diags = parseHCL(filename, src, f.sources)
	}
	if body == nil { // attributes missing from a broken text would only add errors
		for _, diag := range diags {
			if diag.Severity == hcl.DiagError {
				diag.Detail += fmt.Sprintf(" (The file was read as %v.)", f.Syntax)
			}
		}
		return f, diags
	}
	return f, append(diags, f.decode(body)...)
}

// decode decodes the top level of body into f.
func (f *File) decode(body hcl.Body) hcl.Diagnostics {
	ctx := &hcl.EvalContext{Functions: functions(filepath.Dir(f.Name))}
	schema := schemaOf(reflect.TypeFor[File]())
	schema.Blocks = append(schema.Blocks, hcl.BlockHeaderSchema{Type: "endpoint", LabelNames: []string{"kind", "name"}})
	if f.Syntax == HCL { // directives have macros instead
		schema.Blocks = append(schema.Blocks, hcl.BlockHeaderSchema{Type: "locals"})
	}
	content, diags := body.Content(schema)
	diags = concerningNames(diags)

	named := make(hcl.Attributes)
	for _, name := range []string{"hostname", "state_dir"} {
		if attr, ok := content.Attributes[name]; ok {
			named[name] = attr
		}
	}
	diags = append(diags, define(ctx, f.sources, named, content.Blocks.OfType("locals"))...)

	d := decoder{ctx: ctx}
	d.content(content, reflect.ValueOf(f).Elem())
	diags = append(diags, d.diags...)

	places := make(map[[2]string]hcl.Range)
	for _, block := range content.Blocks.OfType("endpoint") {
		e := Endpoint{
			Kind: block.Labels[0], KindRange: block.LabelRanges[0],
			Name: block.Labels[1], NameRange: block.LabelRanges[1],
			Range: block.DefRange, Body: block.Body, Context: ctx, sources: f.sources,
		}
		id := [2]string{e.Kind, e.Name}
		if first, again := places[id]; again {
			diags = append(diags, WithHint(diagnostic.Redefined("Endpoint", e.Kind+" "+e.Name, e.NameRange, first),
				"give each endpoint of a kind its own name"))
			continue
		}
		places[id] = e.NameRange
		f.Endpoints = append(f.Endpoints, e)
	}
	return diags
}
