package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestImportedPlaces checks that a diagnostic names the imported file and quotes its line.
func TestImportedPlaces(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"maddy.conf":       "realm main\nendpoint.turn turn {\n  import conf/turn\n}\nimport conf/macros.conf\nhostname $(host)\n",
		"conf/turn.conf":   "realm example.org\nquota\tmany\nimport more\n",
		"conf/more":        "share much\n",
		"conf/macros.conf": "$(host) = mail.example.org\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, _, diags := readEndpoints("maddy.conf")
	if f.Hostname.V != "mail.example.org" {
		t.Errorf("hostname %q", f.Hostname.V)
	}
	want := `maddy.conf:1:1: Unsupported directive: A directive named "realm" is not expected here.
    1 | realm …
      | ^^^^^
  hint: mailturn reference shows which block each name belongs to
conf/more:1:7: Not a number: share is "much"; a number is accepted.
    1 | share much
      |       ^^^^
conf/turn.conf:2:7: Not a whole number: quota is "many"; a whole number is accepted.
    2 | quota    many
      |          ^^^^
`
	if diff := cmp.Diff(want, written(t, f, diags)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestTooManyErrors(t *testing.T) {
	src := strings.Repeat("state_dir {env:MAILTURN_TEST_UNSET}\n", 102) + "hostname example.org\n"
	f, diags := Parse("maddy.conf", []byte(src))
	if !diags.HasErrors() {
		t.Error("a file that is not read to its end loads without an error")
	}
	if out := written(t, f, diags); !strings.HasSuffix(out, "maddy.conf: 2 more errors and warnings are not shown\n") {
		t.Errorf("got %s", out[len(out)-200:])
	}
}
