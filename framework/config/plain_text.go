package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/text/unicode/norm"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// CheckText returns an error if s is not text that a configuration can hold. HCL keeps strings in Unicode's normal form C, so a
// secret in another form, or with bytes that are not UTF-8, would silently become another secret.
func CheckText(s string) error { return diagnostic.CheckText(s) }

// checkToken checks the text of an HCL token.
func checkToken(token hclsyntax.Token) *hcl.Diagnostic {
	text := string(token.Bytes)
	switch token.Type {
	case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
		text, _ = hclsyntax.ParseStringLiteralToken(token) // which also resolves \u0301
	case hclsyntax.TokenIdent:
	default:
		return nil
	}
	if CheckText(text) != nil {
		return diagnostic.NotPlain(token.Range, "This text")
	}
	return nil
}

// combines reports whether val is text that begins with a character which may combine with the one before it, where a template
// joins the two.
func combines(val cty.Value) bool {
	val, _ = val.Unmark()
	if val.IsNull() || !val.IsKnown() || val.Type() != cty.String || val.AsString() == "" {
		return false
	}
	return !norm.NFC.PropertiesString(val.AsString()).BoundaryBefore()
}

func combining(rng hcl.Range) *hcl.Diagnostic {
	return WithHint(diagnostic.Valueless(Errorf(rng, diagnostic.NotPlainSummary, "This part of the text begins with a combining character.")), diagnostic.NotPlainHint)
}
