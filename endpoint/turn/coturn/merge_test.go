package coturn

import (
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

const merged = "realm=example.org\nstatic-auth-secret=correct horse battery staple\nexternal-ip=198.51.100.7/10.0.0.7\ncert=c.pem\npkey=k.pem\n" +
	"denied-peer-ip=9.0.0.0-9.255.255.255\nprometheus\nverbose\n"

// TestAddTo checks that the content of the file remains, and that attributes that belong together are not mixed.
func TestAddTo(t *testing.T) {
	for _, tt := range []struct{ name, present, want, kept string }{
		{"an endpoint on one line", `endpoint "turn" "a" {}`, `= "correct horse`, ""},
		{"another relay_bind", "endpoint \"turn\" \"a\" {\n  relay_bind = \"10.0.0.8\"\n}\n", `= "10.0.0.8"`, "relay_ip, relay_bind"},
		{"another certificate", "endpoint \"turn\" \"a\" {\n  tls {\n    cert = \"mine.pem\"\n    key = \"mine.key\"\n  }\n}\n", `"mine.key"`, "tls cert, tls key"},
		{"the same", "endpoint \"turn\" \"a\" {\n  realm = \"example.org\"\n}\n", `= "example.org"`, ""},
		{"a list of two", "endpoint \"turn\" \"a\" {\n  relay_ip = [\"198.51.100.7\",\n \"2001:db8::7\"]\n}\n", `"2001:db8::7"]`, "relay_ip, relay_bind"},
		{"the second endpoint of two", "endpoint \"turn\" \"a\" {\n}\nendpoint \"turn\" \"b\" {\n  realm = \"b\"\n}\n", "endpoint \"turn\" \"b\" {\n  realm = \"b\"\n}", ""},
		{"a level of the log", "log {\n  level = \"warn\"\n}\n", `level = "warn"`, "log level"},
		{"no endpoint", "hostname = \"example.org\"\n", "\n\nendpoint \"turn\" \"turn\" {\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, kept := addTo(t, tt.present)
			if !strings.Contains(text, tt.want) {
				t.Errorf("no %s in\n%s", tt.want, text)
			}
			if got := strings.Join(kept, ", "); got != tt.kept {
				t.Errorf("kept %q, want %q", got, tt.kept)
			}
		})
	}
}

// addTo adds merged to a file, and checks that the result can be parsed.
func addTo(t *testing.T, present string) (text string, kept []string) {
	t.Helper()
	_, i := imported(t, merged)
	added, kept, diags := i.AddTo([]byte(present), "maddy.conf")
	if diags.HasErrors() {
		t.Skip(diags)
	}
	if _, diags := hclsyntax.ParseConfig(added, "maddy.conf", hcl.InitialPos); diags.HasErrors() {
		t.Errorf("%v\n%s", diags, added)
	}
	return string(added), kept
}

// onOneLine matches a nonempty block on one line.
var onOneLine = regexp.MustCompile(`\{[^\n}]*[^\s}][^\n]*\}`)

// FuzzAddTo checks that comments and strings of any file remain, and that adding a second time changes nothing.
func FuzzAddTo(f *testing.F) {
	f.Add("# comment\nhostname = \"x\"\nendpoint \"turn\" \"turn\" { # another\n  tls {\n  }\n}\n")
	f.Add("endpoint \"http\" \"h\" {}\nlog {}")
	f.Add("endpoint {\n}\nendpoint \"turn\" {\n peers {\n deny = []\n }\n}\n")
	f.Fuzz(func(t *testing.T, present string) {
		if onOneLine.MatchString(present) || strings.Count(present, "{") > 50 {
			t.Skip("a block on one line takes one attribute and no more")
		}
		once, _ := addTo(t, present)
		twice, _ := addTo(t, once)
		if twice != once {
			t.Errorf("got\n%s\nand then\n%s", once, twice)
		}
	})
}
