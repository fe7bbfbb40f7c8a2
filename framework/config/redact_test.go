package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
)

// TestSecretsAreNotShown checks the diagnostics that could quote the secret hunter2.
func TestSecretsAreNotShown(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.conf")
	if err := os.WriteFile(broken, []byte("secret hunter2#x\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MAILTURN_TEST_SECRET", "north hunter2")

	tests := []struct{ name, src string }{
		{"misspelt", `endpoint "turn" { ` + "\n" + `secert = "hunter2"` + "\n}"},
		{"misspelt, far off", `endpoint "turn" { ` + "\n" + `sharedkey = "hunter2"` + "\n}"},
		{"unknown block", `endpoint "turn" { ` + "\n" + `passphrase "hunter2" {` + "\n}\n}"},
		{"at the top", `secret = "hunter2"`},
		{"no quotes", `endpoint "turn" { ` + "\n" + `secret = hunter2` + "\n}"},
		{"no quotes, no equals", `endpoint "turn" { ` + "\n" + `turn_secret hunter2` + "\nx = 1\n}"},
		{"no equals", `endpoint "turn" { ` + "\n" + `turn_secret "hunter2"` + "\nx = 1\n}"},
		{"colon", `endpoint "turn" { ` + "\n" + `turn_secret: "hunter2"` + "\nx = 1\n}"},
		{"single quotes", `endpoint "turn" { ` + "\n" + `secret = 'hunter2'` + "\n}"},
		{"quote not closed", `endpoint "turn" { ` + "\n" + `secret = "hunter2` + "\n}"},
		{"quote not opened", `endpoint "turn" { ` + "\n" + `secret = hunter2"` + "\n}"},
		{"bad escape", `endpoint "turn" { ` + "\n" + `secret = "hunter2\q"` + "\n}"},
		{"operator", `endpoint "turn" { ` + "\n" + `secret = hunter2 & "hunter2"` + "\n}"},
		{"misspelt in broken line", `endpoint "turn" { ` + "\n" + `secert = "hunter2" x` + "\n}"},
		{"one line", `endpoint "turn" { secret = "hunter2", x = 1 }`},
		{"set twice", `endpoint "turn" { ` + "\nsecret = 1\n" + `secret = "hunter2"` + "\n}"},
		{"heredoc", "endpoint \"turn\" {\nsecret = <<EOT\nhunter2 ${nothing} hunter2\nEOT\n}"},
		{"heredoc, broken", "endpoint \"turn\" {\nsecret = <<EOT\n{\nhunter2 ${ + } hunter2\nEOT\n}"},
		{"quotation mark in it", "endpoint \"turn\" {\nsecret = [\"a\\\"\",\n\"hunter2\" \"hunter2\"]\n}"},
		{"template", `endpoint "turn" { ` + "\n" + `secret = "hunter2${nothing}"` + "\n}"},
		{"unknown function", `endpoint "turn" { ` + "\n" + `secret = hunter2("hunter2")` + "\n}"},
		{"function", `endpoint "turn" { ` + "\n" + `secret = env("MAILTURN_TEST_UNSET", "hunter2", "x")` + "\n}"},
		{"list of lists", `endpoint "turn" { ` + "\n" + `secret = ["hunter2", ["hunter2"], null]` + "\n}"},
		{"list over lines", "endpoint \"turn\" {\nsecret = [\n\"hunter2\", [\"hunter2\"],\n]\n}"},
		{"refused by its type", `endpoint "turn" { ` + "\n" + `secret = "north hunter2"` + "\n}"},
		{"refused by its type, from env", `endpoint "turn" { ` + "\n" + `secret = env("MAILTURN_TEST_SECRET")` + "\n}"},
		{"map", `endpoint "turn" { ` + "\n" + `users = "hunter2"` + "\n}"},
		{"map of lists", `endpoint "turn" { ` + "\n" + `users = { alice = ["hunter2"], bob = "hunter2" }` + "\n}"},
		{"map key twice", "endpoint \"turn\" {\nusers = {\n\"alice\" = \"hunter2\"\n\"alice\" = \"hunter2\"\n}\n}"},
		{"map broken", "endpoint \"turn\" {\nusers = {\n\"alice\" = \"hunter2\" \"hunter2\"\n}\n}"},
		{"local", "locals {\nsecret = hunter2\n}"},
		{"local of another name", "locals {\nx = \"hunter2${nothing}\"\n}"},
		{"local of another name, operand", "locals {\nx = -\"hunter2\"\n}"},
		{"comment", `endpoint "turn" { ` + "\n" + `realm = x # secret: hunter2` + "\n}"},

		{"directive: two for one", "endpoint.turn turn {\nturn_secret hunter2 hunter2\n}"},
		{"directive: misspelt", "endpoint.turn turn {\nsecert hunter2\n}"},
		{"directive: misspelt, far off", "endpoint.turn turn {\nsharedkey hunter2\n}"},
		{"directive: equals", "endpoint.turn turn {\nsecret = hunter2\n}"},
		{"directive: comment in a word", "endpoint.turn turn {\nsecret hunter2#hunter2\n}"},
		{"directive: quote not closed", "endpoint.turn turn {\nsecret \"hunter2\n}"},
		{"directive: brace", "endpoint.turn turn {\nsecret hunter2 { hunter2\n}\n}"},
		{"directive: continued", "endpoint.turn turn {\nturn_secret \\\n  hunter2 hunter2\n}"},
		{"directive: continued, broken", "endpoint.turn turn {\nturn_secret \\\n  hunter2 { hunter2\n}\n}"},
		{"directive: repeated", "endpoint.turn turn {\nsecret a\nsecret hunter2\n}"},
		{"directive: refused by its type", "endpoint.turn turn {\nsecret \"north hunter2\"\n}"},
		{"directive: refused by its type, from env", "endpoint.turn turn {\nsecret {env:MAILTURN_TEST_SECRET}\n}"},
		{"directive: unknown macro", "endpoint.turn turn {\nsecret x$(hunter2)\n}"},
		{"directive: macro twice", "$(x) = a\n$(x) = hunter2\n"},
		{"directive: map", "endpoint.turn turn {\nusers {\nalice hunter2 hunter2\n}\n}"},
		{"directive: map without values", "endpoint.turn turn {\nusers hunter2\n}"},
		{"directive: map key twice", "endpoint.turn turn {\nusers {\nalice hunter2\nalice hunter2\n}\n}"},
		{"directive: imported", "endpoint.turn turn {\nimport " + broken + "\n}"},
		{"directive: not UTF-8", "endpoint.turn turn {\nsecret hunter2\xff\n}"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, diags := Parse("maddy.conf", []byte(test.src))
			_, more := decodeEndpoints(f)
			diags = append(diags, more...)
			if len(diags) == 0 {
				t.Fatal("no diagnostic")
			}
			if strings.HasPrefix(test.name, "directive:") != (f.Syntax == Directives) {
				t.Errorf("read as %v", f.Syntax)
			}
			if out := written(t, f, diags); strings.Contains(out, "hunter2") {
				t.Errorf("secret is shown:\n%s", out)
			}
		})
	}
}

// TestLaterDiagnostic checks a diagnostic that a kind adds after decoding, about a secret whose name does not sound like one.
func TestLaterDiagnostic(t *testing.T) {
	var target struct {
		Key Value[string] `hcl:"shared" secret:"true"`
	}
	f, diags := Parse("maddy.conf", []byte("endpoint \"turn\" {\n  shared = \"hunter2\"\n}\n"))
	diags = append(diags, f.Endpoints[0].Decode(&target)...)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	got := written(t, f, hcl.Diagnostics{Errorf(target.Key.Range, "Secret is short", "It has 7 bytes.")})
	want := `maddy.conf:2:12: Secret is short: It has 7 bytes.
    2 |   shared = [redacted]
      |            ^^^^^^^^^^
`
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestHiddenParts(t *testing.T) {
	tests := []struct {
		src, want string // of the line that the diagnostic is about, the first
	}{
		{`secret = "x"`, `secret = [redacted]`},
		{`secret = file("/etc/turn.secret")`, `secret = file("/etc/turn.secret")`},
		{`secret = env("TURN_SECRET") # from systemd`, `secret = env("TURN_SECRET") # from systemd`},
		{`secret = env("TURN_SECRET", "x")`, `secret = [redacted]`},
		{`secret = local.turn`, `secret = local.turn`},
		{`secret {env:TURN_SECRET}`, `secret {env:TURN_SECRET}`},
		{`secret $(turn)`, `secret $(turn)`},
		{`turn_secret "x" # y`, `turn_secret [redacted]`},
		{`users { a = "x" }`, `users [redacted]`},
		{`embedded { users = { a = "x" } } # y`, `embedded { users = [redacted]} # y`},
		{`admin_password: x`, `admin_password: [redacted]`},
		{`api_key = "x"`, `api_key = [redacted]`},
		{`turn_ttl = "24h"`, `turn_ttl = "24h"`},
		{`key = "/etc/ssl/secret/key.pem"`, `key = "/etc/ssl/secret/key.pem"`},
		{`cert /etc/secret/cert.pem x`, `cert /etc/secret/cert.pem x`},
		{`users_file = "/etc/users"`, `users_file = "/etc/users"`},
		{`server = "x"`, `server = "x"`},
	}
	for _, test := range tests {
		f := newFile("maddy.conf")
		f.sources.text["maddy.conf"] = []byte(test.src + "\nrealm = 1")
		line, _, ok := f.sources.quote(hcl.Range{Filename: "maddy.conf", Start: hcl.InitialPos, End: hcl.InitialPos}, false)
		if !ok || line != test.want {
			t.Errorf("%s\ngot  %s\nwant %s", test.src, line, test.want)
		}
	}
}
