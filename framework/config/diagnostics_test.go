package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
)

func at(line, column, from, to int) hcl.Range {
	return hcl.Range{
		Filename: "maddy.conf",
		Start:    hcl.Pos{Line: line, Column: column, Byte: from},
		End:      hcl.Pos{Line: line, Column: column + to - from, Byte: to},
	}
}

func TestWriteDiagnostics(t *testing.T) {
	f := newFile("maddy.conf")
	f.sources.text["maddy.conf"] = []byte("realm = 1\r\n\tquota = \x1b[31m\n" +
		"x = \"" + strings.Repeat("a", 200) + "b" + strings.Repeat("c", 200) + "\"\n")
	got := written(t, f, hcl.Diagnostics{
		Errorf(at(3, 206, 231, 232), "Far to the right", "A long line is cut."),
		Errorf(at(2, 10, 20, 25), "Control character", "A terminal\nshall not see \x1b[31m it."),
		WithHint(Warnf(at(1, 9, 8, 9), "Port range is empty", "min %d is above max %d.", 2, 1), "swap them"),
		Errorf(at(1, 10, 9, 9), "End of a line", "The carriage return is not text."),
		Errorf(at(1, 9, 8, 9), "Another at one place", "zzz"),
		Errorf(hcl.Range{}, "Whole file", "It has no place."),
		{Severity: hcl.DiagError, Summary: "No subject", Subject: nil},
		Errorf(hcl.Range{Filename: "other.conf", Start: hcl.Pos{Line: 7, Column: 2}}, "Unknown file", "Nothing is quoted."),
	})
	want := `maddy.conf: No subject
maddy.conf: Whole file: It has no place.
maddy.conf:1:9: Another at one place: zzz
    1 | realm = 1
      |         ^
maddy.conf:1:9: warning: Port range is empty: min 2 is above max 1.
    1 | realm = 1
      |         ^
  hint: swap them
maddy.conf:1:10: End of a line: The carriage return is not text.
    1 | realm = 1
      |          ^
maddy.conf:2:10: Control character: A terminal shall not see ·[31m it.
    2 |     quota = ·[31m
      |             ^^^^^
maddy.conf:3:206: Far to the right: A long line is cut.
    3 | …` + strings.Repeat("a", 32) + "b" + strings.Repeat("c", 65) + `…
      | ` + strings.Repeat(" ", 33) + `^
other.conf:7:2: Unknown file: Nothing is quoted.
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestWriteDiagnosticsError(t *testing.T) {
	f := newFile("maddy.conf")
	if err := f.WriteDiagnostics(failingWriter{}, hcl.Diagnostics{Errorf(hcl.Range{}, "x", "y")}); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

var errFull = errors.New("no space left")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }
