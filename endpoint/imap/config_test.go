package imap

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/imap/upstream"
	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/module/moduletest"
	"github.com/mailturn/mailturn/imapext/metadata"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// decodeFile decodes and links every endpoint of a file, without a TURN endpoint.
func decodeFile(t *testing.T, filename string) ([]Config, *config.File, hcl.Diagnostics) {
	t.Helper()
	file, diags := config.Load(filename)
	if file == nil {
		t.Fatal(diags)
	}
	var configs []Config
	for _, endpoint := range file.Endpoints {
		c, endpointDiags := Decode(endpoint, Defaults{TLS: []certs.Pair{{Cert: "cert.pem", Key: "key.pem"}}})
		diags = append(diags, endpointDiags...)
		if !strings.HasPrefix(c.TURN.Server.V, "[") { // linking follows decoding without errors
			diags = append(diags, c.LinkTURN(nil)...)
		}
		configs = append(configs, c)
	}
	return configs, file, diags
}

// TestInvalid checks the fixtures, in which a comment follows the place of each expected diagnostic: # ERROR: or # WARNING: and a
// part of its text.
func TestInvalid(t *testing.T) {
	expectation := regexp.MustCompile(`# (ERROR|WARNING): (.*?)\s*(?:$|# (?:ERROR|WARNING))`)
	files, err := filepath.Glob("testdata/invalid/*.conf")
	if err != nil || len(files) < 5 {
		t.Fatalf("fixtures: %q, %v", files, err)
	}
	for _, filename := range files {
		t.Run(filepath.Base(filename), func(t *testing.T) {
			source, err := os.ReadFile(filename)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for i, line := range strings.Split(string(source), "\n") {
				for rest := line; ; {
					match := expectation.FindStringSubmatchIndex(rest)
					if match == nil {
						break
					}
					want = append(want, fmt.Sprintf("%d %s %s", i+1, rest[match[2]:match[3]], rest[match[4]:match[5]]))
					rest = rest[match[5]:]
				}
			}
			_, file, diags := decodeFile(t, filename)
			for _, diag := range diags {
				severity := "ERROR"
				if diag.Severity == hcl.DiagWarning {
					severity = "WARNING"
				}
				said := fmt.Sprintf("%s: %s", diag.Summary, diag.Detail)
				place := fmt.Sprintf("%d %s ", diag.Subject.Start.Line, severity)
				i := slices.IndexFunc(want, func(w string) bool {
					text, here := strings.CutPrefix(w, place)
					return here && strings.Contains(said, text)
				})
				if i < 0 {
					t.Errorf("unexpected: %s%s", place, said)
					continue
				}
				want = slices.Delete(want, i, i+1)
			}
			for _, missing := range want {
				t.Errorf("missing: %s", missing)
			}
			checkPrinted(t, file, diags)
		})
	}
}

// TestUsersFile is not among the fixtures because it depends on file modes.
func TestUsersFile(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		want       []string // summaries
		detail     string
	}{
		{"good", "alice:wonderland\n", 0o600, nil, ""},
		{"open to everybody", "alice:wonderland\n", 0o644, []string{"Users file is readable by everybody"}, "0644"},
		{"broken", "alice:wonderland\nbob\n", 0o600, []string{"Invalid users file"}, "line 2 has no colon"},
		{"twice", "bob:wonderland\n", 0o600, []string{"Duplicate user"}, `"bob" is in users at maddy.conf:3`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "users")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			file, diags := config.Parse("maddy.conf", fmt.Appendf(nil, `endpoint "imap" "imap" {
  embedded {
    users      = { "bob" = "builder" }
    users_file = %q
  }
}`, path))
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			c, diags := Decode(file.Endpoints[0], Defaults{TLS: []certs.Pair{{Cert: "cert.pem", Key: "key.pem"}}})
			var got []string
			for _, diag := range diags {
				got = append(got, diag.Summary)
				if !strings.Contains(diag.Detail, tt.detail) {
					t.Errorf("the detail is %q, want %q in it", diag.Detail, tt.detail)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if !diags.HasErrors() && len(c.Users) != 2 {
				t.Errorf("users: %v", c.Users)
			}
			checkPrinted(t, file, diags)
		})
	}
}

// checkPrinted checks that printed diagnostics contain no secret.
func checkPrinted(t *testing.T, file *config.File, diags hcl.Diagnostics) {
	t.Helper()
	var printed bytes.Buffer
	if err := file.WriteDiagnostics(&printed, diags); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"verysecrethash", "wonderland", "builder", "0123456789abcdef", `"north"`, "shared secret"} {
		if strings.Contains(printed.String(), secret) {
			t.Errorf("%s is printed:\n%s", secret, &printed)
		}
	}
}

// equal compares configurations, without places, and with the contents of secrets.
var equal = cmp.Options{
	cmp.FilterPath(func(p cmp.Path) bool {
		name := p.Last().String()
		return name == ".Range" || name == ".Elems" || name == ".ListenRanges" || name == ".AddressRanges"
	}, cmp.Ignore()),
	cmpopts.IgnoreUnexported(issuer.Config{}),
	cmp.Comparer(func(a, b credential.Secret) bool { return bytes.Equal(a.Bytes(), b.Bytes()) }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b metadata.Value) bool { return a == b }),
}

// TestTwins checks that both syntaxes mean the same.
func TestTwins(t *testing.T) {
	fromDirectives, _, diags := decodeFile(t, "testdata/valid/upstream.conf")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	fromHCL, _, diags := decodeFile(t, "testdata/valid/upstream.hcl.conf")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if diff := cmp.Diff(fromHCL, fromDirectives, equal); diff != "" {
		t.Errorf("HCL (-) and directives (+) differ:\n%s", diff)
	}
	c := fromHCL[0]
	if c.Upstream == nil || !c.InsecureAuth || c.LoginTimeout != 90*time.Second ||
		len(c.Listen) != 2 || c.TURN.TTL.V != 24*time.Hour || !c.TURN.Enable.V || c.TURN.Port.V != 443 || len(c.TURN.Secrets.V) != 2 {
		t.Errorf("got %+v", c)
	}
	wantUpstream := upstream.Config{
		Addresses:      []upstream.Address{{Scheme: "tcp", Address: "127.0.0.1:1143"}, {Scheme: "starttls", Address: "imap2.example.com:143"}, {Scheme: "unix", Address: "/run/dovecot/imap"}},
		ServerName:     "imap.example.com",
		ConnectTimeout: 5 * time.Second,
		ClientAddress:  upstream.ClientAddressProxy2,
	}
	if diff := cmp.Diff(wantUpstream, *c.Upstream, equal); diff != "" {
		t.Errorf("upstream (-want +got):\n%s", diff)
	}
	if got := fmt.Sprint(c.ProxyProtocol); got != "[10.0.0.0/8 2001:db8::5/128]" || c.MaxUnauthenticatedNetwork.V != 60 {
		t.Errorf("proxies are %s, limit of a network %d", got, c.MaxUnauthenticatedNetwork.V)
	}
	if c := fromHCL[1]; len(c.Users) != 2 || c.Upstream != nil || c.TURN.Enable.V {
		t.Errorf("got %+v", c)
	}
}

func TestDefaults(t *testing.T) {
	file, diags := config.Parse("test.conf", []byte(`endpoint "imap" "imap" {}`))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	c, diags := Decode(file.Endpoints[0], Defaults{Hostname: "mail.example.org"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var warnings []string
	for _, diag := range diags {
		warnings = append(warnings, diag.Summary)
	}
	if diff := cmp.Diff([]string{"No certificate", "Nobody can log in"}, warnings); diff != "" {
		t.Error(diff)
	}
	if got := fmt.Sprint(c.Listen); got != "[tls://0.0.0.0:993 tcp://0.0.0.0:143]" {
		t.Errorf("listens on %s", got)
	}
	if c.MaxConnections != 10000 || c.MaxUnauthenticated != 100 || c.MaxUnauthenticatedNetwork.V != 1000 || c.LoginTimeout != time.Minute || c.IdleTimeout.V != 31*time.Minute || c.InsecureAuth {
		t.Errorf("limits: %+v", c)
	}
	if diags := c.LinkTURN(nil); len(diags) != 0 || c.TURN.Enable.V {
		t.Errorf("without a relay: %v, %+v", diags, c.TURN)
	}
}

func TestDocumentedDefaults(t *testing.T) {
	decode := func(before, after string) func(t *testing.T, body string) any {
		return func(t *testing.T, body string) any {
			file, diags := config.Parse("maddy.conf", []byte("endpoint \"imap\" {\n"+before+body+after+"\n}\n"))
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			c, diags := Decode(file.Endpoints[0], Defaults{})
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			return c
		}
	}
	moduletest.Defaults[Schema](t, decode("", ""))
	t.Run("upstream", func(t *testing.T) {
		moduletest.Defaults[upstream.Schema](t, decode("upstream {\n  address = \"tcp://127.0.0.1:1143\"\n", "\n}"))
	})
}
