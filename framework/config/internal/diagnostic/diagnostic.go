// Package diagnostic makes the diagnostics about a configuration file, whatever its syntax.
package diagnostic

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/hashicorp/hcl/v2"
)

// Errorf returns an error about the text at rng: summary names the problem; the detail, made from format and args, gives
// the value seen and what would be accepted. With the zero Range it is about the file as a whole.
func Errorf(rng hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	return newDiagnostic(hcl.DiagError, rng, summary, fmt.Sprintf(format, args...))
}

// Warnf returns a warning as Errorf returns an error: for something that works but may not be intended.
func Warnf(rng hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	return newDiagnostic(hcl.DiagWarning, rng, summary, fmt.Sprintf(format, args...))
}

func newDiagnostic(severity hcl.DiagnosticSeverity, rng hcl.Range, summary, detail string) *hcl.Diagnostic {
	diag := &hcl.Diagnostic{Severity: severity, Summary: summary, Detail: detail}
	if rng != (hcl.Range{}) {
		diag.Subject = &rng
	}
	return diag
}

// Redefined reports that name, which is a what, is given at again although it was already given at first.
func Redefined(what, name string, again, first hcl.Range) *hcl.Diagnostic {
	return Errorf(again, what+" is repeated", "%s was already set at %s:%d:%d; it can be set only once.",
		name, first.Filename, first.Start.Line, first.Start.Column)
}

// WithHint adds to d a hint that says what to do, and returns d.
func WithHint(d *hcl.Diagnostic, hint string) *hcl.Diagnostic {
	d.Extra = hintExtra{hint: hint, extra: extra{d.Extra}}
	return d
}

// Hint returns the hint of d, or "".
func Hint(d *hcl.Diagnostic) (hint string, ok bool) {
	extra, ok := hcl.DiagnosticExtra[hintExtra](d)
	return extra.hint, ok
}

// AboutName marks d as a diagnostic about a name, and returns d. The rest of its line must not be shown, because the name may be
// that of a secret, misspelt.
func AboutName(d *hcl.Diagnostic) *hcl.Diagnostic {
	d.Extra = nameExtra{extra{d.Extra}}
	return d
}

// IsAboutName reports whether d was marked by AboutName.
func IsAboutName(d *hcl.Diagnostic) bool {
	_, ok := hcl.DiagnosticExtra[nameExtra](d)
	return ok
}

// Valueless marks d as containing no value, so that it can be shown for a secret too, and returns d.
func Valueless(d *hcl.Diagnostic) *hcl.Diagnostic {
	d.Extra = valuelessExtra{extra{d.Extra}}
	return d
}

// IsValueless reports whether d was marked by Valueless.
func IsValueless(d *hcl.Diagnostic) bool {
	_, ok := hcl.DiagnosticExtra[valuelessExtra](d)
	return ok
}

// extra is a link of the chain that hcl.DiagnosticExtra follows.
type extra struct{ wrapped any }

func (e extra) UnwrapDiagnosticExtra() any { return e.wrapped }

type hintExtra struct {
	extra
	hint string
}

type (
	nameExtra      struct{ extra }
	valuelessExtra struct{ extra }
)

// Reason returns err without the operation and the path that package os puts before it.
func Reason(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}
