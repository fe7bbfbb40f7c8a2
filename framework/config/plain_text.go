package config

import (
	"errors"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/text/unicode/norm"
)

// CheckText returns an error if s is no text that a configuration can hold. HCL keeps strings in Unicode's normal form C, so
// that a secret in another form, or with bytes that are not UTF-8, would silently become another secret.
func CheckText(s string) error {
	if !utf8.ValidString(s) || !norm.NFC.IsNormalString(s) {
		return errNotPlain
	}
	return nil
}

var errNotPlain = errors.New("it is not UTF-8 text in Unicode's normal form C")

const (
	notPlainSummary = "Not plain text"
	notPlainHint    = "write random bytes as base64 or hexadecimal, and accented letters as one character each"
)

// notPlain reports that what, which stands at rng, does not pass CheckText.
func notPlain(rng hcl.Range, what string) *hcl.Diagnostic {
	return WithHint(Errorf(rng, notPlainSummary, "%s does not hold UTF-8 text in Unicode's normal form C.", what), notPlainHint)
}

// checkToken checks what an HCL token brings into a value.
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
		return notPlain(token.Range, "This text")
	}
	return nil
}

// combines reports whether val is a text that begins with a character which may melt into the one before it, where a
// template joins the two.
func combines(val cty.Value) bool {
	val, _ = val.Unmark()
	if val.IsNull() || !val.IsKnown() || val.Type() != cty.String || val.AsString() == "" {
		return false
	}
	return !norm.NFC.PropertiesString(val.AsString()).BoundaryBefore()
}

func combining(rng hcl.Range) *hcl.Diagnostic {
	return WithHint(withoutValues(Errorf(rng, notPlainSummary, "This part of a text begins with a character that combines with the one before it.")), notPlainHint)
}
