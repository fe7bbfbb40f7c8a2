package imap

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

func secrets(texts ...string) []credential.Secret {
	var list []credential.Secret
	for _, text := range texts {
		list = append(list, credential.NewSecret([]byte(text)))
	}
	return list
}

const (
	secretA = "0123456789abcdef0123456789abcdef"
	secretB = "fedcba9876543210fedcba9876543210"
)

// testRelay listens on 3478, and with TLS on 5349 and 443; 443 answers everything.
func testRelay() *Relay {
	return &Relay{
		Name:     "turn",
		Range:    hcl.Range{Filename: "maddy.conf", Start: hcl.Pos{Line: 30, Column: 1}, End: hcl.Pos{Line: 30, Column: 20}},
		Hostname: "mail.example.org",
		UDPPorts: []uint16{3478, 443}, TLSPorts: []uint16{5349, 443},
		Secrets:     secrets(secretA, secretB),
		SecretRange: hcl.Range{Filename: "maddy.conf", Start: hcl.Pos{Line: 33, Column: 12}, End: hcl.Pos{Line: 33, Column: 20}},
	}
}

func TestLinkTURN(t *testing.T) {
	for _, tt := range []struct {
		name       string
		attributes string
		relay      func(*Relay) // nil for none in the file
		want       string       // enabled, turn, turns, secret
		diags      []string     // line, severity, summary; a part of the detail
	}{
		{"all from the relay", ``, func(*Relay) {},
			"true mail.example.org:3478 mail.example.org:5349 " + secretA, nil},
		{"Madmail's snippet", `
  turn_enable = "yes"
  turn_server = "turn.example.com"
  turn_port = 443
  turn_secret = "` + secretA + `"
  turn_ttl = 86400
  turn_prefer_tls = "yes"`, func(*Relay) {},
			"true turn.example.com:443 turn.example.com:443 " + secretA, nil},
		{"second secret of the relay", `
  turn_secret = "` + secretB + `"`, func(*Relay) {},
			"true mail.example.org:3478 mail.example.org:5349 " + secretB, nil},
		{"secret that is generated later", ``, func(r *Relay) { r.Secrets = nil },
			"true mail.example.org:3478 mail.example.org:5349 ", nil},
		{"relay without TLS", ``, func(r *Relay) { r.TLSPorts = nil },
			"true mail.example.org:3478  " + secretA, nil},
		{"relay on another port", ``, func(r *Relay) { r.UDPPorts = []uint16{13478} },
			"true mail.example.org:13478 mail.example.org:5349 " + secretA, nil},
		{"TLS preferred, the port chosen among those that answer everything", `
  turn_prefer_tls = true`, func(*Relay) {},
			"true mail.example.org:443 mail.example.org:443 " + secretA, nil},
		{"switched off", `
  turn_enable = false`, func(*Relay) {}, "false", nil},
		{"no relay at all", ``, nil, "false", nil},
		{"external relay", `
  turn_server = "turn.example.com"
  turn_secret = "` + secretA + `"`, nil,
			"true turn.example.com:3478 turn.example.com:5349 " + secretA, nil},
		{"external relay on the host itself", `
  turn_enable = true
  turn_secret = "` + secretA + `"`, nil,
			"true mail.example.org:3478 mail.example.org:5349 " + secretA, nil},

		{"another secret", `
  turn_secret = ["0000000000000000", "` + secretA + `"]`, func(*Relay) {}, "", []string{
			`2 error Relay does not accept this secret; endpoint turn "turn" at maddy.conf:30, secret at maddy.conf:33`}},
		{"secret of ours, the relay's is generated", `
  turn_secret = "` + secretA + `"`, func(r *Relay) { r.Secrets = nil; r.SecretRange = hcl.Range{} }, "", []string{
			`2 error Relay does not accept this secret; endpoint turn "turn" at maddy.conf:30`}},
		{"port without listener", `
  turn_port = 3479`, func(*Relay) {}, "", []string{
			`2 error Nothing listens on the advertised port; UDP port 3479, and endpoint turn "turn" at maddy.conf:30 listens on UDP port 3478, 443.`}},
		{"relay without UDP", ``, func(r *Relay) { r.UDPPorts = nil }, "", []string{
			`30 error Nothing listens on the advertised port; listens on no UDP port`}},
		{"TLS port without listener", `
  turns_port = 5350`, func(*Relay) {}, "", []string{
			`2 error Nothing listens on the advertised TLS port; TLS port 5350, and endpoint turn "turn" at maddy.conf:30 listens on TLS port 5349, 443.`}},
		{"TLS port, relay without TLS", `
  turns_port = 5349`, func(r *Relay) { r.TLSPorts = nil }, "", []string{
			`2 error Nothing listens on the advertised TLS port; listens on no TLS port`}},
		{"TLS preferred, relay without", `
  turn_prefer_tls = true`, func(r *Relay) { r.TLSPorts = nil }, "", []string{
			`2 error TLS is preferred and not there; Endpoint turn "turn" at maddy.conf:30 has no TLS`}},
		{"TLS preferred on a port of TLS only", `
  turn_prefer_tls = true
  turns_port = 5349`, func(*Relay) {}, "", []string{
			`2 error Preferred port does not answer plain TURN; port 5349`}},
		{"TLS preferred, no port answers everything", `
  turn_prefer_tls = true`, func(r *Relay) { r.UDPPorts = []uint16{3478} }, "", []string{
			`2 error Preferred port does not answer plain TURN; listens on UDP port 3478.`}},
		{"TLS preferred on a port without listener", `
  turn_prefer_tls = true
  turns_port = 5350`, func(*Relay) {}, "", []string{
			`3 error Nothing listens on the advertised TLS port; TLS port 5350`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source := `endpoint "imap" "imap" {` + tt.attributes + "\n}"
			file, diags := config.Parse("imap.conf", []byte(source))
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			defaults := Defaults{Hostname: "mail.example.org", TLS: []certs.Pair{{Cert: "cert.pem", Key: "key.pem"}}}
			c, diags := Decode(file.Endpoints[0], defaults)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			var relay *Relay
			if tt.relay != nil {
				relay = testRelay()
				tt.relay(relay)
			}
			diags = c.LinkTURN(relay)
			if len(diags) != len(tt.diags) {
				t.Fatalf("got %v, want %q", diags, tt.diags)
			}
			for i, diag := range diags {
				head, detail, _ := strings.Cut(tt.diags[i], "; ")
				if got := fmt.Sprintf("%d error %s", diag.Subject.Start.Line, diag.Summary); got != head || diag.Severity != hcl.DiagError {
					t.Errorf("got %q, want %q", got, head)
				}
				if !strings.Contains(diag.Detail, detail) {
					t.Errorf("got %q, want %q in it", diag.Detail, detail)
				}
				for _, secret := range []string{secretA, secretB, "0000000000000000"} {
					if strings.Contains(diag.Detail, secret) {
						t.Errorf("%q shows a secret", diag.Detail)
					}
				}
			}
			if len(tt.diags) == 0 {
				if diff := cmp.Diff(tt.want, advertised(c.TURN)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// advertised is what clients are told, in a line.
func advertised(c TURN) string {
	if !c.Enable.V {
		return "false"
	}
	turn, turns := c.Values(credential.Credential{})
	secret := ""
	if len(c.Secrets.V) > 0 {
		secret = string(c.Secrets.V[0].Bytes())
	}
	return fmt.Sprint(true, " ", strings.TrimSuffix(turn, "::"), " ", strings.TrimSuffix(turns, "::"), " ", secret)
}

func TestHostname(t *testing.T) {
	for host, want := range map[string]bool{
		"turn.example.org": true, "localhost": true, "xn--trn-hoa.example.org": true, "a_b.example.org": true, "turn.example.org.": true,
		"": false, "-turn.example.org": false, "turn-.example.org": false, "turn..example.org": false, "turn example.org": false,
		strings.Repeat("a", 64) + ".org": false, strings.Repeat("a.", 130): false, "türn.org": false,
	} {
		if got := isHostname(host); got != want {
			t.Errorf("%q: got %v, want %v", host, got, want)
		}
	}
}
