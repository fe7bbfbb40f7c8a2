package directive

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// lexTests describe maddy's syntax. In want, quoted words are in quotation marks, and ; is a line end.
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

func TestLex(t *testing.T) {
	for _, test := range lexTests {
		words, diags := lex("x", []byte(test.src))
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
	words, _ := lex("x", []byte("\ufeffa \"ü\n ü\" b\n"))
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
		_, diags := lex("x", []byte(test.src))
		if len(diags) != 1 || fmt.Sprintf("%v %s", diags[0].Subject, diags[0].Summary) != test.want {
			t.Errorf("%q: got %v, want %s", test.src, diags, test.want)
		}
	}
}

// TestBody checks the parts of hcl.Body that decoding does not use.
func TestBody(t *testing.T) {
	body, _, diags := Parse("x", []byte("hostname a\nlog {\n}\nrealm b\n"))
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

// TestExprFor checks the value of the same words for attributes of different types.
func TestExprFor(t *testing.T) {
	body, _, diags := Parse("x", []byte("hostname\nstate_dir 1h 30m\ntls {\n}\n"))
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	content, _, _ := body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "hostname"}, {Name: "state_dir"}, {Name: "tls"}}})
	tests := []struct {
		attribute string
		typ       reflect.Type
		want      cty.Value // or NilVal for no value
	}{
		{"hostname", reflect.TypeFor[bool](), cty.True},
		{"hostname", reflect.TypeFor[string](), cty.NilVal},
		{"hostname", reflect.TypeFor[[]string](), cty.NilVal},
		{"state_dir", reflect.TypeFor[time.Duration](), cty.StringVal("1h30m")},
		{"state_dir", reflect.TypeFor[[]string](), cty.TupleVal([]cty.Value{cty.StringVal("1h"), cty.StringVal("30m")})},
		{"tls", reflect.TypeFor[map[string]string](), cty.EmptyObjectVal},
	}
	for _, test := range tests {
		expr := content.Attributes[test.attribute].Expr.(interface {
			ExprFor(reflect.Type) hcl.Expression
		}).ExprFor(test.typ)
		got := cty.NilVal
		if expr != nil {
			got, _ = expr.Value(nil)
		}
		if got == cty.NilVal || test.want == cty.NilVal {
			if got != test.want {
				t.Errorf("%s for %v: got %#v, want %#v", test.attribute, test.typ, got, test.want)
			}
		} else if !got.RawEquals(test.want) {
			t.Errorf("%s for %v: got %#v, want %#v", test.attribute, test.typ, got, test.want)
		}
	}
}
