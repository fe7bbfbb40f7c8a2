package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/bounded"
)

// values compares decoded values without their places.
var values = cmp.Options{
	cmpopts.IgnoreTypes(hcl.Range{}, []hcl.Range{}),
	cmp.AllowUnexported(testSecret{}),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func set[T any](v T) Value[T] { return Value[T]{V: v, Set: true} }

// TestTwins loads the snippet that Madmail documents and its twin in HCL.
func TestTwins(t *testing.T) {
	want := []testEndpoint{
		{
			Enable: set(true), Server: set("turn.example.com"), Port: set(443), TurnKey: set(testSecret{"shared secret"}),
			TTL: set(24 * time.Hour), PreferTLS: set(true),
		},
		{
			Realm: set("example.com"), Secret: set([]testSecret{{"shared secret"}}),
			RelayIP: set([]netip.Addr{netip.MustParseAddr("1.2.3.4")}),
			TLS:     &TLS{Cert: set("/path/to/cert.pem"), Key: set("/path/to/key.pem")},
		},
	}
	for name, syntax := range map[string]Syntax{"testdata/madmail.conf": Directives, "testdata/madmail.hcl.conf": HCL} {
		f, endpoints, diags := readEndpoints(name)
		if len(diags) > 0 {
			t.Fatal(written(t, f, diags))
		}
		if f.Syntax != syntax {
			t.Errorf("%s: read as %v", name, f.Syntax)
		}
		if diff := cmp.Diff(want, endpoints, values); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
		labels := fmt.Sprint(f.Endpoints[0].Kind, f.Endpoints[0].Name, f.Endpoints[1].Kind, f.Endpoints[1].Name)
		if labels != "imapimapturnturn" {
			t.Errorf("%s: labels %s", name, labels)
		}
	}
}

// TestWhole checks every value of the valid fixtures, which use all features of each syntax.
func TestWhole(t *testing.T) {
	t.Run("HCL", func(t *testing.T) {
		f, endpoints, diags := readEndpoints("testdata/valid/hcl.conf")
		if len(diags) > 0 {
			t.Fatal(written(t, f, diags))
		}
		if f.Hostname.V != "mail.example.org" || f.StateDir.V != "/var/lib/mailturn" ||
			f.TLS.Cert.V != "/etc/ssl/mail.example.org/fullchain.pem" || f.Log.Level.V != "debug" || f.Log.Format.Set {
			t.Errorf("top level: %+v", f)
		}
		want := []testEndpoint{
			{
				Listen: set([]string{"udp://0.0.0.0:3478", "tcp://0.0.0.0:3478"}), Realm: set("mail.example.org"),
				Secret:  set([]testSecret{{"0123456789abcdef0123456789abcdef"}, {"older secret of sixteen bytes"}}),
				RelayIP: set([]netip.Addr{netip.MustParseAddr("198.51.100.7")}), Quota: set(12), Share: set(0.5),
				Allow: set([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}),
			},
			{
				TTL: set(120 * time.Hour), PreferTLS: set(false),
				Users:    set(map[string]string{"alice@example.org": "one", "bob": "two"}),
				Upstream: []testUpstream{{Address: set("tcp://127.0.0.1:1143")}},
			},
		}
		if diff := cmp.Diff(want, endpoints, values); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
	t.Run("directives", func(t *testing.T) {
		f, endpoints, diags := readEndpoints("testdata/valid/directives.conf")
		if len(diags) > 0 {
			t.Fatal(written(t, f, diags))
		}
		if f.Hostname.V != "mail.example.org" || f.StateDir.V != "/var/lib/mailturn" || f.Log.Level.V != "debug" ||
			f.TLS.Cert.V != "/etc/ssl/mail.example.org/fullchain.pem" || f.TLS.Key.V != "/etc/ssl/mail.example.org/privkey.pem" {
			t.Errorf("top level: %+v", f)
		}
		want := []testEndpoint{
			{
				Listen: set([]string{"tcp://0.0.0.0:3478", "udp://0.0.0.0:3478", "tls://0.0.0.0:5349"}),
				Realm:  set("mail.example.org"), Secret: set([]testSecret{{`a secret with # and " in it`}, {"older secret"}}),
				RelayIP: set([]netip.Addr{netip.MustParseAddr("198.51.100.7")}), Quota: set(12), Share: set(0.5),
				Allow: set([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}),
				TLS:   &TLS{Cert: set("/a.pem"), Key: set("/b.pem")},
			},
			{
				Listen: set([]string{"tls://0.0.0.0:993"}), TTL: set(90 * time.Minute), PreferTLS: set(true), Enable: set(false),
				Users:    set(map[string]string{"alice@example.org": "one", "bob": "two"}),
				Upstream: []testUpstream{{Address: set("tcp://127.0.0.1:1143")}},
			},
			{Listen: set([]string{"tls://127.0.0.1:1993"})},
			{TLS: &TLS{Cert: set("/a.pem"), Key: set("/b.pem")}},
			{Share: set(1.0)},
		}
		if diff := cmp.Diff(want, endpoints, values); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		var names []string
		for _, e := range f.Endpoints {
			names = append(names, e.Kind+"/"+e.Name)
		}
		if got, want := strings.Join(names, " "), "turn/turn imap/second imap/imap http/http imap/third one"; got != want {
			t.Errorf("endpoints %s, want %s", got, want)
		}
	})
}

func TestLoadUnreadable(t *testing.T) {
	folder := t.TempDir()
	large := filepath.Join(folder, "large.conf")
	if err := os.WriteFile(large, make([]byte, bounded.MaxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, want string }{
		{filepath.Join(folder, "none.conf"), "no such file or directory"},
		{folder, "not a regular file but a directory"},
		{large, "it is larger than 1048576 bytes"},
	}
	for _, test := range tests {
		f, diags := Load(test.name)
		got := written(t, f, diags)
		if want := fmt.Sprintf("%s: Configuration cannot be read: %s.\n", test.name, test.want); got != want {
			t.Errorf("got  %swant %s", got, want)
		}
	}
}

// TestBounds checks inputs that, at the size of a file, would overflow the stack or fill the memory of a parser without bounds.
func TestBounds(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"brackets", "x = " + strings.Repeat("[", 1<<14), "Nested too deeply"},
		{"parentheses", "x = " + strings.Repeat("(", 1<<14), "Nested too deeply"},
		{"blocks", strings.Repeat("x {\n", 1<<14), "Nested too deeply"},
		{"templates", "x = " + strings.Repeat(`"${`, 1<<14), "Nested too deeply"},
		{"signs", "x = " + strings.Repeat("-", 1<<14) + "1\n", "Expression is too long"},
		{"sum", "x = " + strings.Repeat("1+", 1<<14) + "1\n", "Expression is too long"},
		{"sum over lines", "x = (" + strings.Repeat("1+\n", 1<<14) + "1)\n", "Expression is too long"},
		{"splats", "x = a" + strings.Repeat("[*]", 1<<14) + "\n", "Expression is too long"},
		{"conditions", "x = \"" + strings.Repeat("%{if true}", 1<<14) + "\"\n", "Expression is too long"},
		{"number", "hostname = 1e999999999\n", "Number is too large"},
		{"directive blocks", "imap a {\n" + strings.Repeat("x y {\n", 1<<14), "Nested too deeply"},
		{"macros", doubling("$(x%d) = $(x%d) $(x%d)\n") + "hostname $(x40)\n", "Configuration too large after expansion"},
		{"macros in words", doubling("$(x%d) = a$(x%d)$(x%d)\n") + "hostname $(x40)\n", "Configuration too large after expansion"},
		{"snippets", doubling("(x%d) {\nimport x%d\nimport x%d\n}\n") + "import x40\n", "Imports nested too deeply"},
		{"snippets, wide", widening() + "import x5\n", "Configuration too large after expansion"},
		{"large", strings.Repeat("#", bounded.MaxFile+1), "Configuration cannot be read"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, diags := Parse("maddy.conf", []byte(test.src))
			var summaries []string
			for _, diag := range diags {
				summaries = append(summaries, diag.Summary)
			}
			if len(diags) == 0 || len(diags) > 200 || !strings.Contains(strings.Join(summaries, ","), test.want) {
				t.Errorf("read as %v, got %d diagnostics: %.200v, want %s", f.Syntax, len(diags), summaries, test.want)
			}
			if out := written(t, f, diags); len(out) > 100_000 {
				t.Errorf("%d bytes printed", len(out))
			}
		})
	}
}

// doubling returns definitions each of which is twice as long as the previous one.
func doubling(format string) string {
	var src strings.Builder
	src.WriteString("$(x0) = y\n(x0) {\n}\n")
	for i := 1; i <= 40; i++ {
		fmt.Fprintf(&src, format, i, i-1, i-1)
	}
	return src.String()
}

// widening returns five snippets each of which imports the previous one a hundred times.
func widening() string {
	var src strings.Builder
	src.WriteString("(x0) {\n}\n")
	for i := 1; i <= 5; i++ {
		fmt.Fprintf(&src, "(x%d) {\n%s}\n", i, strings.Repeat(fmt.Sprintf("import x%d\n", i-1), 100))
	}
	return src.String()
}

func TestDetectSyntax(t *testing.T) {
	tests := []struct {
		name string
		want Syntax
		src  string
	}{
		{"empty", HCL, ""},
		{"comment", HCL, "# hostname example.org\n\n"},
		{"assignment", HCL, "hostname = \"example.org\"\n"},
		{"directive", Directives, "hostname example.org\n"},
		{"directive, quoted", Directives, "hostname \"example.org\"\n"},
		{"directive, environment", Directives, "hostname {env:HOST}\n"},
		{"directive, macro", Directives, "\ufeff$(x) = y\n"},
		{"directive, path", Directives, "state_dir /var/lib\n"},
		{"endpoint", HCL, "endpoint \"turn\" \"turn\" {\n}\n"},
		{"endpoint.turn", Directives, "endpoint.turn turn {\n}\n"},
		{"endpoint.turn without a name", Directives, "endpoint.turn {\n}\n"},
		{"turn", Directives, "turn udp://0.0.0.0:3478 {\n}\n"},
		{"the same in both", HCL, "tls {\n}\n"},
		{"one = is missing", HCL, "hostname \"example.org\"\nendpoint \"turn\" \"turn\" {\n  realm = \"x\"\n}\n"},
		{"all = are missing", HCL, "endpoint \"turn\" \"turn\" {\n  realm \"x\"\n}\n"},
		{"one = too many", Directives, "endpoint.turn turn {\n  realm = example.org\n  secret = \"x\"\n}\n"},
		{"text of a heredoc", HCL, "x = <<EOT\nendpoint.imap a\nendpoint.imap b\nEOT\n"},
		{"items of a list", HCL, "x = [\n  \"a\",\n  b\n]\n"},
	}
	for _, test := range tests {
		if got := DetectSyntax([]byte(test.src)); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

func TestSecretFileOpenToEveryone(t *testing.T) {
	folder := t.TempDir()
	for name, mode := range map[string]os.FileMode{"open": 0o644, "closed": 0o640} {
		name = filepath.Join(folder, name)
		if err := errors.Join(os.WriteFile(name, []byte("a secret of 16 bytes\r\n"), mode), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ attribute, want string }{
		{`secret = file("open")`, "Secret file is readable by everybody"},
		{`secret = ["another", local.open]`, "Secret file is readable by everybody"},
		{`secret = file("closed")`, ""},
		{`realm = file("open")`, ""},
	}
	for _, test := range tests {
		src := "locals {\n  open = file(\"open\")\n}\nendpoint \"turn\" {\n  " + test.attribute + "\n}\n"
		f, diags := Parse(filepath.Join(folder, "maddy.conf"), []byte(src))
		endpoints, more := decodeEndpoints(f)
		diags = append(diags, more...)
		var got string
		for _, diag := range diags {
			got += diag.Summary
			if diag.Severity != hcl.DiagWarning {
				t.Errorf("%s: not a warning: %v", test.attribute, diag)
			}
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.attribute, got, test.want)
		}
		e := endpoints[0]
		if text := fmt.Sprint(e.Secret.V, e.Realm.V); !strings.Contains(text, "a secret of 16 bytes}") && e.Realm.V != "a secret of 16 bytes" {
			t.Errorf("%s: read %q", test.attribute, text)
		}
	}
}

func TestFileIsText(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"bytes": "\xff\xfe", "decomposed": "e\u0301"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, diags := Parse(filepath.Join(folder, "maddy.conf"), fmt.Appendf(nil, "hostname = file(%q)\n", name))
		if len(diags) != 1 || diags[0].Summary != "Not plain text" {
			t.Errorf("%s: got %v", name, diags)
		}
	}
}

func TestPathStartsAtTheConfigurationFile(t *testing.T) {
	f, diags := Parse("/etc/mailturn/maddy.conf", []byte(`
state_dir = "state"
tls {
  cert = "/etc/ssl/cert.pem"
  key  = "../ssl/key.pem"
}
`))
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	for _, test := range []struct{ got, want string }{
		{Path(f.StateDir), "/etc/mailturn/state"},
		{Path(f.TLS.Cert), "/etc/ssl/cert.pem"},
		{Path(f.TLS.Key), "/etc/ssl/key.pem"},
		{Path(f.Hostname), ""},
	} {
		if test.got != filepath.FromSlash(test.want) {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}
