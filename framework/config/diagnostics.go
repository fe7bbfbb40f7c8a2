package config

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// Errorf returns an error about the text at rng: summary names the problem; the detail, made from format and args, gives
// the value seen and what would be accepted. With the zero Range it is about the file as a whole.
func Errorf(rng hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	return diagnostic.Errorf(rng, summary, format, args...)
}

// Warnf returns a warning as Errorf returns an error: for something that works but may not be intended.
func Warnf(rng hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	return diagnostic.Warnf(rng, summary, format, args...)
}

// WithHint adds to d a hint that says what to do, and returns d.
func WithHint(d *hcl.Diagnostic, hint string) *hcl.Diagnostic { return diagnostic.WithHint(d, hint) }

// Place returns how a diagnostic names another place in the files: FILE:LINE.
func Place(rng hcl.Range) string { return rng.Filename + ":" + strconv.Itoa(rng.Start.Line) }

// concerningNames marks a body's diagnostics about the names in it, and adds a hint to those about unknown names.
func concerningNames(diags hcl.Diagnostics) hcl.Diagnostics {
	for _, diag := range diags {
		_, hinted := diagnostic.Hint(diag)
		if strings.HasPrefix(diag.Summary, "Unsupported ") && !hinted && !strings.Contains(diag.Detail, "Did you mean") {
			WithHint(diag, "mailturn reference shows which block each name belongs to")
		}
		diagnostic.AboutName(diag)
	}
	return diags
}

// maxWritten bounds how many diagnostics are printed.
const maxWritten = 100

// WriteDiagnostics prints diags in the order of their places in the file, each as
//
//	maddy.conf:14:3: Unsupported argument: An argument named "relm" is not expected here. Did you mean "realm"?
//	   14 |   relm = …
//	      |   ^^^^
//	  hint: what to do
//
// with "warning: " before the summary of a warning. Secrets in the quoted line are replaced by [redacted]. Diagnostics about the
// file as a whole come first, those about imported files last. If there are very many, only the first are printed.
func (f *File) WriteDiagnostics(w io.Writer, diags hcl.Diagnostics) error {
	diags = slices.Clone(diags)
	slices.SortStableFunc(diags, f.compare)
	diags = slices.Compact(diags) // one that concerns many values may be there for each of them
	out := bufio.NewWriter(w)
	for i, diag := range diags {
		if i == maxWritten {
			fmt.Fprintf(out, "%s: %d more errors and warnings are not shown\n", f.Name, len(diags)-i)
			break
		}
		f.write(out, diag)
	}
	return out.Flush()
}

// compare orders by place, and at one place by text, so that the output does not depend on the order in which HCL walks its maps.
func (f *File) compare(a, b *hcl.Diagnostic) int {
	x, y := f.subject(a), f.subject(b)
	imported := func(rng hcl.Range) int {
		if rng.Filename == f.Name {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(imported(x), imported(y)),
		cmp.Compare(x.Filename, y.Filename),
		cmp.Compare(x.Start.Line, y.Start.Line),
		cmp.Compare(x.Start.Column, y.Start.Column),
		cmp.Compare(a.Summary, b.Summary),
		cmp.Compare(a.Detail, b.Detail),
	)
}

// subject returns the place of diag. Its line is 0 if it is about a whole file.
func (f *File) subject(diag *hcl.Diagnostic) hcl.Range {
	if diag.Subject == nil || *diag.Subject == (hcl.Range{}) {
		return hcl.Range{Filename: f.Name}
	}
	return *diag.Subject
}

func (f *File) write(w *bufio.Writer, diag *hcl.Diagnostic) {
	rng := f.subject(diag)
	w.WriteString(rng.Filename)
	if rng.Start.Line > 0 {
		fmt.Fprintf(w, ":%d:%d", rng.Start.Line, rng.Start.Column)
	}
	w.WriteString(": ")
	if diag.Severity == hcl.DiagWarning {
		w.WriteString("warning: ")
	}
	w.WriteString(printable(diag.Summary))
	if diag.Detail != "" {
		w.WriteString(": " + printable(diag.Detail))
	}
	w.WriteString("\n")
	if text, marks, ok := f.sources.quote(rng, diagnostic.IsAboutName(diag)); ok {
		number := fmt.Sprint(rng.Start.Line)
		fmt.Fprintf(w, "%5s | %s\n", number, text)
		fmt.Fprintf(w, "%*s | %s\n", max(5, len(number)), "", marks)
	}
	if hint, ok := diagnostic.Hint(diag); ok {
		w.WriteString("  hint: " + printable(hint) + "\n")
	}
}

// printable returns s as one line, without control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !visible(r):
			return '·'
		}
		return r
	}, s)
}
