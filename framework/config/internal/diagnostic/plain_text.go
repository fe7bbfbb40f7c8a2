package diagnostic

import (
	"errors"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"golang.org/x/text/unicode/norm"
)

// CheckText returns an error if s is not text that a configuration can hold. HCL keeps strings in Unicode's normal form C, so a
// secret in another form, or with bytes that are not UTF-8, would silently become another secret.
func CheckText(s string) error {
	if !utf8.ValidString(s) || !norm.NFC.IsNormalString(s) {
		return errNotPlain
	}
	return nil
}

var errNotPlain = errors.New("not UTF-8 text in Unicode normalization form C")

// The diagnostic for text that does not pass CheckText.
const (
	NotPlainSummary = "Not plain text"
	NotPlainHint    = "write random bytes as base64 or hexadecimal, and each accented letter as one character"
)

// NotPlain returns the error that what, at rng, does not pass CheckText.
func NotPlain(rng hcl.Range, what string) *hcl.Diagnostic {
	return WithHint(Errorf(rng, NotPlainSummary, "%s is not UTF-8 text in Unicode normalization form C.", what), NotPlainHint)
}
