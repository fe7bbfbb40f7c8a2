package imap

import (
	"fmt"
	"testing"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// TestLinkTURN checks whether clients are told about a relay; package issuer tests what they are told.
func TestLinkTURN(t *testing.T) {
	secret := []credential.Secret{credential.NewSecret([]byte("0123456789abcdef0123456789abcdef"))}
	relay := &issuer.Relay{Name: "turn", UDPPorts: []uint16{3478}, Secrets: secret}
	for _, tt := range []struct {
		name       string
		attributes string
		relay      *issuer.Relay
		want       string // turn, or empty when clients are told nothing
		diag       string // line and summary
	}{
		{"relay in the file", ``, relay, "mail.example.org:3478::", ""},
		{"switched off", `turn_enable = false`, relay, "", ""},
		{"no relay at all", ``, nil, "", ""},
		{"external relay", `turn_server = "turn.example.org"
  turn_secret = "0123456789abcdef0123456789abcdef"`, nil, "turn.example.org:3478::", ""},
		{"external relay on the host itself", `turn_enable = "yes"
  turn_secret = "0123456789abcdef0123456789abcdef"`, nil, "mail.example.org:3478::", ""},
		{"switched on without a relay", `turn_enable = true`, nil, "", "2 Relay secret is missing"},
		{"port of no relay", `turn_port = 3479`, nil, "", "2 Attribute has no effect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file, diags := config.Parse("imap.conf", []byte("endpoint \"imap\" \"imap\" {\n  "+tt.attributes+"\n}"))
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			c, diags := Decode(file.Endpoints[0], Defaults{Hostname: "mail.example.org", TLS: []certs.Pair{{Cert: "cert.pem", Key: "key.pem"}}})
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			diags = c.LinkTURN(tt.relay)
			if got := said(diags); got != tt.diag {
				t.Fatalf("got %q, want %q", got, tt.diag)
			}
			got := ""
			if c.TURN.Enable.V {
				got, _ = c.TURN.Values(credential.Credential{})
			}
			if tt.diag == "" && got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// said returns the line and the summary of each diagnostic.
func said(diags hcl.Diagnostics) (text string) {
	for _, diag := range diags {
		text += fmt.Sprintf("%d %s", diag.Subject.Start.Line, diag.Summary)
	}
	return text
}
