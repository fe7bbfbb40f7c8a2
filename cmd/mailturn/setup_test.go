package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/config/configtest"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// decodeTwin decodes a file of testdata/twins with its /path/to pointing at real files.
func decodeTwin(t *testing.T, dir, name string) (*setup, config.Syntax) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "twins", name))
	if err != nil {
		t.Fatal(err)
	}
	file, diags := config.Parse(name, bytes.ReplaceAll(text, []byte("/path/to"), []byte(dir)))
	var s *setup
	if !diags.HasErrors() {
		decoded, decodeDiags := decode(file, "")
		s, diags = decoded, append(diags, decodeDiags...)
	}
	var printed strings.Builder
	file.WriteDiagnostics(&printed, diags)
	if diags.HasErrors() {
		t.Fatal(printed.String())
	}
	t.Log(printed.String())
	return s, file.Syntax
}

// certificate creates cert.pem and key.pem in a temporary directory.
func certificate(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	pair, _, err := certs.SelfSigned(dir, []string{"turn.example.com"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{pair.Cert: "cert.pem", pair.Key: "key.pem"} {
		if err := os.Rename(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestSyntaxesMeanTheSame checks that each file of directives and its twin in HCL decode to equal values.
func TestSyntaxesMeanTheSame(t *testing.T) {
	dir := certificate(t)
	options := cmp.Options{
		cmp.Comparer(func(hcl.Range, hcl.Range) bool { return true }), // places differ
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Elems" }, cmp.Ignore()),
		cmp.Comparer(func(a, b credential.Secret) bool { return bytes.Equal(a.Bytes(), b.Bytes()) }),
		cmp.FilterValues(func(a, b *config.File) bool { return true }, cmp.Ignore()), // what was decoded
		cmp.Exporter(func(reflect.Type) bool { return true }),
	}
	for _, name := range []string{"madmail", "installed", "everything"} {
		t.Run(name, func(t *testing.T) {
			directives, syntax := decodeTwin(t, dir, name+".conf")
			if syntax != config.Directives {
				t.Errorf("%s.conf was read as %v", name, syntax)
			}
			twin, syntax := decodeTwin(t, dir, name+".hcl")
			if syntax != config.HCL {
				t.Errorf("%s.hcl was read as %v", name, syntax)
			}
			if diff := cmp.Diff(twin, directives, options); diff != "" {
				t.Errorf("directives differ from HCL (-hcl +directives):\n%s", diff)
			}
		})
	}
}

// TestMadmailSnippet checks that the snippet means what Madmail's documentation says: TURNS on 443, and a relay that serves every
// transport there.
func TestMadmailSnippet(t *testing.T) {
	s, _ := decodeTwin(t, certificate(t), "madmail.conf")
	turn, turns := s.imaps[0].TURN.Values(s.imaps[0].TURN.Issue(time.Unix(1758564468, 0)))
	const want = "turn.example.com:443:1758650868:"
	if !strings.HasPrefix(turn, want) || !strings.HasPrefix(turns, want) {
		t.Errorf("got %q and %q, want both to begin with %q", turn, turns, want)
	}
	for _, scheme := range []string{"udp", "tcp", "tls"} {
		if ports := s.relays[0].Ports(scheme); !slices.Contains(ports, 443) {
			t.Errorf("the relay does not listen on 443 with %s: %v", scheme, ports)
		}
	}
	if got := fmt.Sprint(s.relays[0].RelayIP); got != "[1.2.3.4]" {
		t.Errorf("got relay_ip %s, want [1.2.3.4]", got)
	}
}

// TestSecretsStayOut checks that Go prints no secret of a decoded configuration, as a crash or a careless log line might.
func TestSecretsStayOut(t *testing.T) {
	s, _ := decodeTwin(t, certificate(t), "madmail.hcl")
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if printed := fmt.Sprintf(format, s); strings.Contains(printed, "shared secret") || strings.Contains(printed, fmt.Sprintf("%x", "shared secret")) {
			t.Errorf("%s prints the secret: %s", format, printed)
		}
	}
}

// TestMistakes decodes the files of testdata/mistakes, whose comments hold the expected diagnostics.
func TestMistakes(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("testdata", "mistakes", "*.conf"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			file, diags := config.Parse(name, text)
			_, more := decode(file, "")
			configtest.Expect(t, map[string][]byte{name: text}, append(diags, more...))
		})
	}
}
