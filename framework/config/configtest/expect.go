// Package configtest compares the diagnostics of a configuration file with those that its comments expect.
package configtest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
)

// expectation matches the comment at the end of a line that a diagnostic points to. The word "again" follows it where the text that
// makes the line wrong, such as a comment inside a token, has to come last.
var expectation = regexp.MustCompile(`(ERROR|WARNING): (.*?)\s*(?:(?:ERROR|WARNING):)?$`)

// Expect checks that there is exactly one diagnostic for each line of sources that ends in the comment
//
//	# ERROR: Summary: Beginning of the detail
//
// or # WARNING: likewise, and none for any other line. sources holds the text of each file by the name that ranges carry.
func Expect(t testing.TB, sources map[string][]byte, diags hcl.Diagnostics) {
	t.Helper()
	type line struct {
		file   string
		number int
	}
	want := make(map[line]string)
	for file, text := range sources {
		for i, s := range strings.Split(string(text), "\n") {
			if m := expectation.FindStringSubmatch(s); m != nil {
				want[line{file, i + 1}] = m[1] + ": " + m[2]
			}
		}
	}
	for _, diag := range diags {
		severity := "ERROR"
		if diag.Severity == hcl.DiagWarning {
			severity = "WARNING"
		}
		got := fmt.Sprintf("%s: %s: %s", severity, diag.Summary, diag.Detail)
		if diag.Subject == nil {
			t.Errorf("diagnostic without a place: %s", got)
			continue
		}
		at := line{diag.Subject.Filename, diag.Subject.Start.Line}
		if want[at] == "" || !strings.HasPrefix(got, want[at]) {
			t.Errorf("%s:%d:\n got %s\nwant %s", at.file, at.number, got, want[at])
		}
		delete(want, at)
	}
	for at, text := range want {
		t.Errorf("%s:%d: no diagnostic, want %s", at.file, at.number, text)
	}
}
