package directive

import (
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// body is a block of directives as an hcl.Body. The schema says whether a directive is an attribute or a block.
type body struct {
	directives []*directive
	missing    hcl.Range
}

func (b *body) Content(schema *hcl.BodySchema) (*hcl.BodyContent, hcl.Diagnostics) {
	content, rest, diags := b.split(schema)
	for _, d := range rest {
		diags = append(diags, unexpected(d, schema, content.Attributes))
	}
	return content, diags
}

func (b *body) PartialContent(schema *hcl.BodySchema) (*hcl.BodyContent, hcl.Body, hcl.Diagnostics) {
	content, rest, diags := b.split(schema)
	return content, &body{directives: rest, missing: b.missing}, diags
}

// split returns what schema names, and the rest.
func (b *body) split(schema *hcl.BodySchema) (*hcl.BodyContent, []*directive, hcl.Diagnostics) {
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
			diags = append(diags, diagnostic.Errorf(b.missing, "Directive is missing", "%s is required.", attr.Name))
		}
	}
	return content, rest, diags
}

func (b *body) JustAttributes() (hcl.Attributes, hcl.Diagnostics) {
	attrs := make(hcl.Attributes)
	var diags hcl.Diagnostics
	for _, d := range b.directives {
		diags = append(diags, addAttribute(attrs, d)...)
	}
	return attrs, diags
}

func (b *body) MissingItemRange() hcl.Range { return b.missing }

func addAttribute(attrs hcl.Attributes, d *directive) hcl.Diagnostics {
	name := d.name.text
	if first, again := attrs[name]; again {
		return hcl.Diagnostics{diagnostic.Redefined("Directive", name, d.name.rng, first.NameRange)}
	}
	attrs[name] = &hcl.Attribute{
		Name: name, NameRange: d.name.rng, Expr: &arguments{d}, Range: hcl.RangeBetween(d.name.rng, d.end),
	}
	return nil
}

func (d *directive) asBlock(header hcl.BlockHeaderSchema) (*hcl.Block, *hcl.Diagnostic) {
	switch {
	case !d.hasBlock:
		return nil, diagnostic.Errorf(d.header(), "Block is missing", "%s takes a block: a { at the end of the line, and a } on a later line.", header.Type)
	case len(d.args) < len(header.LabelNames):
		return nil, diagnostic.Errorf(d.header(), "Name is missing", "%s takes %d words: %s.",
			header.Type, len(header.LabelNames), strings.Join(header.LabelNames, ", "))
	case len(d.args) > len(header.LabelNames):
		return nil, diagnostic.Errorf(d.args[len(header.LabelNames)].rng, "Unexpected argument",
			"%s takes %d words before its block.", header.Type, len(header.LabelNames))
	}
	block := &hcl.Block{
		Type: header.Type, TypeRange: d.name.rng, DefRange: d.header(),
		Body: &body{directives: d.block, missing: d.header()},
	}
	for _, arg := range d.args {
		block.Labels = append(block.Labels, arg.text)
		block.LabelRanges = append(block.LabelRanges, arg.rng)
	}
	return block, nil
}

// unexpected reports a directive that schema does not name. It does not suggest a name that the body has already.
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
		return diagnostic.WithHint(diagnostic.Errorf(d.name.rng, "Unsupported directive", "A name cannot contain white space."),
			"look for a missing quotation mark, here or above")
	}
	detail := fmt.Sprintf("A directive named %q is not expected here.", d.name.text)
	if similar := suggestion(d.name.text, names); similar != "" {
		detail += fmt.Sprintf(" Did you mean %q?", similar)
	}
	return diagnostic.Errorf(d.name.rng, "Unsupported directive", "%s", detail)
}

// suggestion returns the one of names of which name is likely a misspelling, or "".
func suggestion(name string, names []string) string {
	best, distance := "", min(3, len(name))
	for _, candidate := range names {
		if d := levenshtein.Distance(name, candidate, nil); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}
