package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailturn/mailturn/framework/acme"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
)

// decodeWithACME decodes a file whose certificates come from an authority.
func decodeWithACME(t *testing.T, text string) *setup {
	t.Helper()
	file, diags := config.Parse("maddy.conf", []byte(text))
	s, more := decode(file, "/var/lib/mailturn")
	if diags = append(diags, more...); diags.HasErrors() || s.acme == nil {
		t.Fatal(diags)
	}
	return s
}

func issuedPairs(names ...string) (pairs []certs.Pair) {
	for _, name := range names {
		file := filepath.Join("/var/lib/mailturn/acme", name+".pem")
		pairs = append(pairs, certs.Pair{Cert: file, Key: file, Name: name})
	}
	return pairs
}

const accountLines = "email = \"postmaster@example.org\"\nagree_to_terms = true\n"

// TestNamesOfCertificates checks that there is a certificate for each name that clients are told, and for the names of a block.
func TestNamesOfCertificates(t *testing.T) {
	s := decodeWithACME(t, `
hostname = "Mail.example.org"
tls {
  acme {
    `+accountLines+`
  }
}
endpoint "turn" "turn" {
  relay_ip = "198.51.100.7"
}
endpoint "imap" "imap" {
  turn_server = "turn.example.org"
}
endpoint "http" "http" {
  listen = "https://0.0.0.0:8443"
  tls {
    acme {
      names = ["api.example.org"]
    }
  }
}
`)
	told := issuedPairs("mail.example.org", "turn.example.org")
	for what, pair := range map[string][2][]certs.Pair{
		"turn": {s.relays[0].TLS, told}, "imap": {s.imaps[0].TLS, told}, "http": {s.http[0].TLS, issuedPairs("api.example.org")},
	} {
		if diff := cmp.Diff(pair[1], pair[0]); diff != "" {
			t.Errorf("%s: -want +got\n%s", what, diff)
		}
	}
	if got := strings.Join(s.acme.Names, " "); got != "api.example.org mail.example.org turn.example.org" {
		t.Errorf("certificates for %s", got)
	}
	if got := fmt.Sprint(s.acme.Addresses); got != "[198.51.100.7]" {
		t.Errorf("addresses of this machine: %s", got)
	}
}

func TestChoiceOfChallenge(t *testing.T) {
	const dns = `dns {
  server   = "ns.example.org"
  key_name = "mailturn"
  key      = "c2VjcmV0IG9mIHRoZSBuYW1lIHNlcnZlcg=="
}
`
	const pion = "tls://0.0.0.0:443\"]\n engine = \"pion\" # \""
	for _, tt := range []struct {
		name, acme, listen string
		challenge          acme.Challenge
		at                 string
	}{
		{"nothing on 443", "", "tls://0.0.0.0:5349", acme.HTTP01, ":80"},
		{"443 is ours", "", "tls://0.0.0.0:443", acme.TLSALPN01, "0.0.0.0:443"},
		{"443 is pion's", "", pion, acme.HTTP01, ":80"},
		{"443 over UDP", "", "dtls://0.0.0.0:443", acme.HTTP01, ":80"},
		{"an address for http-01", `http_listen = "127.0.0.1:8402"`, "tls://0.0.0.0:443", acme.HTTP01, "127.0.0.1:8402"},
		{"443 leads to another port", `challenge = "tls-alpn-01"`, "tls://127.0.0.1:8443", acme.TLSALPN01, "127.0.0.1:8443"},
		{"a name server", dns, "tls://0.0.0.0:443", acme.DNS01, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := decodeWithACME(t, fmt.Sprintf("hostname = %q\ntls {\n acme {\n%s%s\n}\n}\nendpoint %[4]q %[4]q {\n listen = [\"udp://0.0.0.0:3478\", \"%s\"]\n}\n",
				"mail.example.org", accountLines, tt.acme, "turn", tt.listen))
			if s.acme.Challenge != tt.challenge || s.acme.Listen != tt.at {
				t.Errorf("got %s at %q, want %s at %q", s.acme.Challenge, s.acme.Listen, tt.challenge, tt.at)
			}
			for _, format := range []string{"%v", "%+v", "%#v"} {
				if printed := fmt.Sprintf(format, *s.acme); strings.Contains(printed, "c2VjcmV0") {
					t.Errorf("%s prints the key: %s", format, printed)
				}
			}
		})
	}
}

// TestIssuedCertificateEnds checks that check-config warns about a certificate whose renewal is overdue, but not about one that
// does not exist yet.
func TestIssuedCertificateEnds(t *testing.T) {
	s := decodeWithACME(t, "hostname = \"mail.example.org\"\ntls {\n acme {\n"+accountLines+"}\n}\nendpoint \"turn\" \"turn\" {\n relay_ip = \"198.51.100.7\"\n}\n")
	s.acme.Dir = t.TempDir()
	x := examination{setup: s}
	if diags := x.checkIssued(time.Now()); len(diags) > 0 {
		t.Errorf("without a certificate: %v", diags)
	}
	pair, _, err := certs.SelfSigned(t.TempDir(), []string{"mail.example.org"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, file := range []string{pair.Cert, pair.Key} {
		part, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	if err := os.WriteFile(acme.File(s.acme.Dir, "mail.example.org"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if diags := x.checkIssued(time.Now()); len(diags) > 0 {
		t.Errorf("with a new certificate: %v", diags)
	}
	diags := x.checkIssued(time.Now().AddDate(1, 0, -13))
	if len(diags) != 1 || diags[0].Summary != "Certificate must be renewed" || diags[0].Subject.Start.Line != 3 {
		t.Errorf("13 days before the end: %v", diags)
	}
}
