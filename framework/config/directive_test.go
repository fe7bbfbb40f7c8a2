package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
)

// lexTests are the facts about maddy's syntax. In want, quoted words are in quotation marks, and ; is a line end.
var lexTests = []struct{ name, src, want string }{
	{"empty", "", ";"},
	{"words", "a  b\tc\n", "a b c ; ;"},
	{"byte order mark", "\ufeffa b", "a b ;"},
	{"carriage return", "a b\r\nc\rd\r\n", "a b ; cd ; ;"},
	{"quoted", `a "b c" ""`, `a "b c" "" ;`},
	{"quoted over lines", "a \"b\nc\" d", "a \"b\nc\" d ;"},
	{"escape", `a "b\"c\d\\"`, `a "b"c\d\\" ;`},
	{"quotation mark inside a word", `a b"c d`, `a b"c d ;`},
	{"text after a quoted word", `a "b"c`, `a "b" c ;`},
	{"single quotes", `a 'b c'`, `a 'b c' ;`},
	{"comment", "# a\nb # c\n", "; b ; ;"},
	{"comment inside a word", "a abc#123", "a abc ;"},
	{"# in quotation marks", `a "abc#123"`, `a "abc#123" ;`},
	{"continued", "a b \\\n c\n", "a b c ; ;"},
	{"continued, carriage return", "a b \\\r\n c\n", "a b c ; ;"},
	{"continued at the end", "a b \\", "a b ;"},
	{"backslash inside a line", `a \ b\`, `a \ b\ ;`},
	{"two backslashes at the end", "a \\ \\", "a \\ ;"},
	{"continued by an empty line", "a \\ \\\n\nb", "a \\ ; b ;"},
	{"two backslashes", "a \\ \\\nb", "a \\ b ;"},
	{"quoted backslash", "a \"\\\"\"\nb", "a \"\"\" ; b ;"},
	{"braces", "a { b } {env:X}", "a { b } {env:X} ;"},
}

func TestLexDirectives(t *testing.T) {
	for _, test := range lexTests {
		words, diags := lexDirectives("x", []byte(test.src))
		if diags.HasErrors() {
			t.Errorf("%s: %v", test.name, diags)
		}
		var got []string
		for _, w := range words {
			switch {
			case w.lineEnd():
				got = append(got, ";")
			case w.quoted:
				got = append(got, `"`+w.text+`"`)
			default:
				got = append(got, w.text)
			}
		}
		if diff := cmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.name, diff)
		}
	}
}

func TestLexRanges(t *testing.T) {
	words, _ := lexDirectives("x", []byte("\ufeffa \"ü\n ü\" b\n"))
	var got []string
	for _, w := range words {
		got = append(got, fmt.Sprintf("%q %v", w.text, w.rng))
	}
	want := []string{`"a" x:1,1-2`, `"ü\n ü" x:1,3-2,4`, `"b" x:2,5-6`, `"" x:2,6-6`, `"" x:3,1-1`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestLexErrors(t *testing.T) {
	tests := []struct{ src, want string }{
		{"a \"b\nc", "x:1,3-3 Quotation mark is not closed"},
		{"a \"b\\", "x:1,3-3 Quotation mark is not closed"},
		{"a b\xffc\nd", "x:1,4-5 Not UTF-8"},
		{"a \"b\xff\"", "x:1,5-6 Not UTF-8"},
	}
	for _, test := range tests {
		_, diags := lexDirectives("x", []byte(test.src))
		if len(diags) != 1 || fmt.Sprintf("%v %s", diags[0].Subject, diags[0].Summary) != test.want {
			t.Errorf("%q: got %v, want %s", test.src, diags, test.want)
		}
	}
}

// TestImportedPlaces checks that a diagnostic names the imported file, and that its line is the one that is quoted.
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
  hint: mailturn reference prints what belongs into which block
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
	src := strings.Repeat("state_dir {env:MAILTURN_TEST_UNSET}\n", maxReported+2) + "hostname example.org\n"
	f, diags := Parse("maddy.conf", []byte(src))
	if !diags.HasErrors() {
		t.Error("a file that is not read to its end loads without an error")
	}
	if out := written(t, f, diags); !strings.HasSuffix(out, "maddy.conf: 2 more errors and warnings are not shown\n") {
		t.Errorf("got %s", out[len(out)-200:])
	}
}

// TestDirectiveBody checks the parts of hcl.Body that decoding does not use.
func TestDirectiveBody(t *testing.T) {
	body, diags := parseDirectives("x", []byte("hostname a\nlog {\n}\nrealm b\n"), newFile("x").sources)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	content, rest, diags := body.PartialContent(&hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "hostname"}, {Name: "secret", Required: true}},
		Blocks:     []hcl.BlockHeaderSchema{{Type: "log"}},
	})
	if len(diags) != 1 || diags[0].Summary != "Directive is missing" {
		t.Errorf("got %v", diags)
	}
	if content.Attributes["hostname"] == nil || len(content.Blocks) != 1 {
		t.Errorf("content %v", content)
	}
	attrs, diags := rest.JustAttributes()
	if len(diags) > 0 || len(attrs) != 1 || attrs["realm"] == nil {
		t.Errorf("rest %v, %v", attrs, diags)
	}
	if val, _ := attrs["realm"].Expr.Value(nil); val.AsString() != "b" {
		t.Errorf("value %#v", val)
	}
}
