package config

import (
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// parseDirectives parses src, a file in the directive syntax, into the body that HCL's parser would make of its twin. The
// body is nil if that is not possible. The text of imported files is added to s.
func parseDirectives(filename string, src []byte, s *sources) (hcl.Body, hcl.Diagnostics) {
	directives, diags := expandDirectives(filename, src, s)
	if diags.HasErrors() {
		return nil, diags
	}
	directives, more := translate(directives)
	start := hcl.Range{Filename: filename, Start: hcl.InitialPos, End: hcl.InitialPos}
	return &directiveBody{directives: directives, missing: start}, append(diags, more...)
}

// directiveBody is a block of directives as an hcl.Body. Whether a directive is an attribute or a block is for the schema
// to say.
type directiveBody struct {
	directives []*directive
	missing    hcl.Range
}

func (b *directiveBody) Content(schema *hcl.BodySchema) (*hcl.BodyContent, hcl.Diagnostics) {
	content, rest, diags := b.split(schema)
	for _, d := range rest {
		diags = append(diags, unexpected(d, schema, content.Attributes))
	}
	return content, diags
}

func (b *directiveBody) PartialContent(schema *hcl.BodySchema) (*hcl.BodyContent, hcl.Body, hcl.Diagnostics) {
	content, rest, diags := b.split(schema)
	return content, &directiveBody{directives: rest, missing: b.missing}, diags
}

// split takes out what schema names and returns the rest.
func (b *directiveBody) split(schema *hcl.BodySchema) (*hcl.BodyContent, []*directive, hcl.Diagnostics) {
	content := &hcl.BodyContent{Attributes: make(hcl.Attributes), MissingItemRange: b.missing}
	var rest []*directive
	var diags hcl.Diagnostics
	attributes := make(map[string]bool)
	for _, attr := range schema.Attributes {
		attributes[attr.Name] = true
	}
	headers := make(map[string]hcl.BlockHeaderSchema)
	for _, header := range schema.Blocks {
		headers[header.Type] = header
	}
	for _, d := range b.directives {
		header, isBlock := headers[d.name.text]
		switch {
		case attributes[d.name.text]:
			diags = append(diags, addAttribute(content.Attributes, d)...)
		case isBlock:
			block, diag := d.asBlock(header)
			if diag != nil {
				diags = append(diags, diag)
				continue
			}
			content.Blocks = append(content.Blocks, block)
		default:
			rest = append(rest, d)
		}
	}
	for _, attr := range schema.Attributes {
		if attr.Required && content.Attributes[attr.Name] == nil {
			diags = append(diags, Errorf(b.missing, "Directive is missing", "%s is required here.", attr.Name))
		}
	}
	return content, rest, diags
}

func (b *directiveBody) JustAttributes() (hcl.Attributes, hcl.Diagnostics) {
	attrs := make(hcl.Attributes)
	var diags hcl.Diagnostics
	for _, d := range b.directives {
		diags = append(diags, addAttribute(attrs, d)...)
	}
	return attrs, diags
}

func (b *directiveBody) MissingItemRange() hcl.Range { return b.missing }

func addAttribute(attrs hcl.Attributes, d *directive) hcl.Diagnostics {
	name := d.name.text
	if first, again := attrs[name]; again {
		return hcl.Diagnostics{redefined("Directive", name, d.name.rng, first.NameRange)}
	}
	attrs[name] = &hcl.Attribute{
		Name: name, NameRange: d.name.rng, Expr: &arguments{d}, Range: hcl.RangeBetween(d.name.rng, d.end),
	}
	return nil
}

func (d *directive) asBlock(header hcl.BlockHeaderSchema) (*hcl.Block, *hcl.Diagnostic) {
	switch {
	case !d.hasBlock:
		return nil, Errorf(d.header(), "Block is missing", "%s takes a block: a { at the end of the line, and a line with } below.", header.Type)
	case len(d.args) < len(header.LabelNames):
		return nil, Errorf(d.header(), "Name is missing", "After %s come %d words: %s.",
			header.Type, len(header.LabelNames), strings.Join(header.LabelNames, ", "))
	case len(d.args) > len(header.LabelNames):
		return nil, Errorf(d.args[len(header.LabelNames)].rng, "Unexpected argument",
			"%s takes %d words before its block.", header.Type, len(header.LabelNames))
	}
	block := &hcl.Block{
		Type: header.Type, TypeRange: d.name.rng, DefRange: d.header(),
		Body: &directiveBody{directives: d.block, missing: d.header()},
	}
	for _, arg := range d.args {
		block.Labels = append(block.Labels, arg.text)
		block.LabelRanges = append(block.LabelRanges, arg.rng)
	}
	return block, nil
}

// unexpected reports a directive that schema does not name. It is not taken for a slip of one that is there already.
func unexpected(d *directive, schema *hcl.BodySchema, present hcl.Attributes) *hcl.Diagnostic {
	if diag := foreign(d); diag != nil {
		return diag
	}
	var names []string
	for _, attr := range schema.Attributes {
		if present[attr.Name] == nil {
			names = append(names, attr.Name)
		}
	}
	for _, block := range schema.Blocks {
		names = append(names, block.Type)
	}
	if strings.ContainsAny(d.name.text, " \t\r\n") {
		// Not shown: what a quotation mark too many or too few has swallowed may be a secret.
		return WithHint(Errorf(d.name.rng, "Unsupported directive", "A name with white space in it is not expected here."),
			"look for a quotation mark that is missing, here or above")
	}
	detail := fmt.Sprintf("A directive named %q is not expected here.", d.name.text)
	if similar := suggestion(d.name.text, names); similar != "" {
		detail += fmt.Sprintf(" Did you mean %q?", similar)
	}
	return Errorf(d.name.rng, "Unsupported directive", "%s", detail)
}

// suggestion returns the one of names that name is likely a slip for, or "".
func suggestion(name string, names []string) string {
	best, distance := "", min(3, len(name))
	for _, candidate := range names {
		if d := levenshtein.Distance(name, candidate, nil); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// arguments is what follows the name of a directive, as an hcl.Expression: one string, a list of strings, a map from the
// directives of a block, or true if nothing follows.
type arguments struct{ d *directive }

func (a *arguments) Value(*hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	d := a.d
	if d.hasBlock {
		if len(d.args) > 0 {
			return cty.DynamicVal, hcl.Diagnostics{Errorf(a.Range(), "Unexpected block", "%s takes arguments or a block, not both.", d.name.text)}
		}
		entries := make(map[string]cty.Value)
		var diags hcl.Diagnostics
		for _, entry := range d.block {
			val, more := (&arguments{entry}).Value(nil)
			entries[entry.name.text] = val
			diags = append(diags, more...)
		}
		return cty.ObjectVal(entries), diags
	}
	var vals []cty.Value
	for _, arg := range d.args {
		vals = append(vals, cty.StringVal(arg.text))
	}
	switch len(vals) {
	case 0:
		return cty.True, nil
	case 1:
		return vals[0], nil
	}
	return cty.TupleVal(vals), nil
}

func (a *arguments) Variables() []hcl.Traversal { return nil }

func (a *arguments) Range() hcl.Range {
	if len(a.d.args) == 0 || a.d.hasBlock {
		return hcl.RangeBetween(a.d.name.rng, a.d.end)
	}
	return hcl.RangeBetween(a.d.args[0].rng, a.d.end)
}

func (a *arguments) StartRange() hcl.Range { return a.d.name.rng }

// bare reports whether the directive is nothing but its name.
func (a *arguments) bare() bool { return len(a.d.args) == 0 && !a.d.hasBlock }

// joined returns the arguments as one word, as maddy reads the duration `1h 30m`.
func (a *arguments) joined() hcl.Expression {
	if len(a.d.args) < 2 || a.d.hasBlock {
		return a
	}
	var text strings.Builder
	for _, arg := range a.d.args {
		text.WriteString(arg.text)
	}
	return hcl.StaticExpr(cty.StringVal(text.String()), a.Range())
}

// ExprList is what hcl.ExprList looks for: the arguments one by one.
func (a *arguments) ExprList() []hcl.Expression {
	if a.d.hasBlock {
		return nil
	}
	var list []hcl.Expression
	for _, arg := range a.d.args {
		list = append(list, hcl.StaticExpr(cty.StringVal(arg.text), arg.rng))
	}
	return list
}

// ExprMap is what hcl.ExprMap looks for: the directives of the block as keys and values.
func (a *arguments) ExprMap() []hcl.KeyValuePair {
	if !a.d.hasBlock || len(a.d.args) > 0 {
		return nil
	}
	pairs := []hcl.KeyValuePair{}
	for _, entry := range a.d.block {
		pairs = append(pairs, hcl.KeyValuePair{
			Key:   hcl.StaticExpr(cty.StringVal(entry.name.text), entry.name.rng),
			Value: &arguments{entry},
		})
	}
	return pairs
}
