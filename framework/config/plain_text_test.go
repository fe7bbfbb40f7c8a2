package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestTextStaysItself writes a secret whose letters consist of two characters each in every way that a file can. HCL would change
// its bytes, so that the relay and its neighbours would compute different passwords.
func TestTextStaysItself(t *testing.T) {
	const secret = "cafe\u0301"
	t.Setenv("DECOMPOSED", secret)
	t.Setenv("BYTES", "\xff\xfe")
	hclFile := func(attribute string) string { return "endpoint \"turn\" \"turn\" {\n" + attribute + "\n}\n" }
	directives := func(before, directive string) string {
		return before + "\nturn udp://0.0.0.0:3478 {\n" + directive + "\n}\n"
	}
	for name, text := range map[string]string{
		"string":             hclFile(`secret = "` + secret + `"`),
		"escape":             hclFile(`secret = "cafe\u0301"`),
		"long escape":        hclFile(`secret = "cafe\U00000301"`),
		"list":               hclFile(`secret = ["good", "` + secret + `"]`),
		"heredoc":            hclFile("secret = <<E\n" + secret + "\nE"),
		"key":                hclFile(`users = { "` + secret + `" = "password" }`),
		"bare key":           hclFile(`users = { ` + secret + ` = "password" }`),
		"value of a map":     hclFile(`users = { "alice" = "` + secret + `" }`),
		"env":                hclFile(`secret = env("DECOMPOSED")`),
		"local":              "locals {\n x = \"" + secret + "\"\n}\n" + hclFile(`secret = local.x`),
		"template":           "locals {\n x = \"\\u0301\"\n}\n" + hclFile(`secret = "cafe${local.x}"`),
		"template of values": "locals {\n x = \"\\u0301\"\n e = \"cafe\"\n}\n" + hclFile(`secret = "${local.e}${local.x}"`),
		"template and text":  "locals {\n e = \"cafe\"\n}\n" + hclFile(`secret = "${local.e}\u0301"`),
		"for in a template":  hclFile(`secret = "%{ for x in ["cafe", "\u0301"] }${x}%{ endfor }"`),
		"label":              "endpoint \"turn\" \"" + secret + "\" {\n}\n",
		"directive":          directives("", "secret "+secret),
		"quoted":             directives("", `secret "`+secret+`"`),
		"macro":              directives("$(x) = "+secret, "secret $(x)"),
		"joined macro":       directives("$(x) = \u0301", "secret cafe$(x)"),
		"{env:X}":            directives("", "secret {env:DECOMPOSED}"),
		"bytes in {env:X}":   directives("", "secret {env:BYTES}"),
		"snippet":            directives("(x) {\nsecret "+secret+"\n}", "import x"),
		"name in a block":    directives("", "users {\n"+secret+" password\n}"),
		"value in a block":   directives("", "users {\nalice "+secret+"\n}"),
	} {
		t.Run(name, func(t *testing.T) {
			f, diags := Parse("maddy.conf", []byte(text))
			if !diags.HasErrors() {
				_, more := decodeEndpoints(f)
				diags = append(diags, more...)
			}
			out := written(t, f, diags)
			if len(diags) != 1 || diags[0].Summary != "Not plain text" {
				t.Errorf("got %d diagnostics, want one that says %q:\n%s", len(diags), "Not plain text", out)
			}
			if strings.Contains(out, "cafe") && name != "label" {
				t.Errorf("the secret is shown:\n%s", out)
			}
		})
	}
	for name, text := range map[string]string{
		"comment":   "# " + secret + "\n" + hclFile(`secret = "caf\u00e9"`),
		"composed":  hclFile("secret = \"caf\u00e9\""),
		"directive": directives("# "+secret, "secret caf\u00e9"),
		"template":  "locals {\n x = \"\u00e9\"\n}\n" + hclFile(`secret = "caf${local.x}"`),
	} {
		f, diags := Parse("maddy.conf", []byte(text))
		endpoints, more := decodeEndpoints(f)
		if diags = append(diags, more...); len(diags) > 0 || fmt.Sprint(endpoints[0].Secret.V) != "[{caf\u00e9}]" {
			t.Errorf("%s: read %v:\n%s", name, endpoints, written(t, f, diags))
		}
	}
}
