package issuer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

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
		UDPPorts: []uint16{3478, 443}, TCPPorts: []uint16{3478, 443}, TLSPorts: []uint16{5349, 443},
		Secrets:     secrets(secretA, secretB),
		SecretRange: hcl.Range{Filename: "maddy.conf", Start: hcl.Pos{Line: 33, Column: 12}, End: hcl.Pos{Line: 33, Column: 20}},
	}
}

func TestLink(t *testing.T) {
	for _, tt := range []struct {
		name       string
		attributes string
		relay      func(*Relay) // nil for none in the file
		want       string       // turn, turns, secret
		diags      []string     // line, severity, summary; a part of the detail
	}{
		{"all from the relay", ``, func(*Relay) {},
			"mail.example.org:3478 mail.example.org:5349 " + secretA, nil},
		{"Madmail's snippet", `
  turn_server = "turn.example.com"
  turn_port = 443
  turn_secret = "` + secretA + `"
  turn_ttl = 86400
  turn_prefer_tls = "yes"`, func(*Relay) {},
			"turn.example.com:443 turn.example.com:443 " + secretA, nil},
		{"second secret of the relay", `
  turn_secret = "` + secretB + `"`, func(*Relay) {},
			"mail.example.org:3478 mail.example.org:5349 " + secretB, nil},
		{"secret that is generated later", ``, func(r *Relay) { r.Secrets = nil },
			"mail.example.org:3478 mail.example.org:5349 ", nil},
		{"relay without TLS", ``, func(r *Relay) { r.TLSPorts = nil },
			"mail.example.org:3478  " + secretA, nil},
		{"relay on another port", ``, func(r *Relay) { r.UDPPorts = []uint16{13478} },
			"mail.example.org:13478 mail.example.org:5349 " + secretA, nil},
		{"TLS preferred, the port chosen among those that answer everything", `
  turn_prefer_tls = true`, func(*Relay) {},
			"mail.example.org:443 mail.example.org:443 " + secretA, nil},
		{"external relay", `
  turn_server = "turn.example.com"
  turn_secret = "` + secretA + `"`, nil,
			"turn.example.com:3478 turn.example.com:5349 " + secretA, nil},
		{"external relay on the host itself", `
  turn_secret = "` + secretA + `"`, nil,
			"mail.example.org:3478 mail.example.org:5349 " + secretA, nil},

		{"another secret", `
  turn_secret = ["0000000000000000", "` + secretA + `"]`, func(*Relay) {}, "", []string{
			`2 error Relay does not accept this secret; endpoint turn "turn" at maddy.conf:30, secret at maddy.conf:33`}},
		{"secret of ours, the relay's is generated", `
  turn_secret = "` + secretA + `"`, func(r *Relay) { r.Secrets = nil; r.SecretRange = hcl.Range{} }, "", []string{
			`2 error Relay does not accept this secret; endpoint turn "turn" at maddy.conf:30`}},
		{"port without listener", `
  turn_port = 3479`, func(*Relay) {}, "", []string{
			`2 error Nothing listens on the advertised port; UDP port 3479, and endpoint turn "turn" at maddy.conf:30 listens on UDP port 3478, 443.`}},
		{"relay of TCP and TLS", ``, func(r *Relay) { r.UDPPorts = nil },
			" mail.example.org:5349 " + secretA, nil},
		{"relay of DTLS alone", ``, func(r *Relay) { r.UDPPorts, r.TCPPorts, r.TLSPorts = nil, nil, nil }, "", []string{
			`30 error Nothing listens on a port that clients use; endpoint turn "turn" at maddy.conf:30 has no udp://`}},
		{"UDP of a relay that has none", `
  turn_transports = ["udp"]`, func(r *Relay) { r.UDPPorts = nil }, "", []string{
			`2 error Nothing listens on the advertised port; UDP port 3478, and endpoint turn "turn" at maddy.conf:30 listens on no UDP port`}},
		{"TCP of a relay that has none", `
  turn_transports = ["tcp", "udp"]`, func(r *Relay) { r.TCPPorts = nil }, "", []string{
			`2 error Nothing listens on the advertised port; TCP port 3478, and endpoint turn "turn" at maddy.conf:30 listens on no TCP port`}},
		{"port of UDP, and TCP asked for", `
  turn_transports = ["udp", "tcp"]
  turn_port = 3478`, func(r *Relay) { r.TCPPorts = []uint16{443} }, "", []string{
			`3 error Nothing listens on the advertised port; TCP port 3478, and endpoint turn "turn" at maddy.conf:30 listens on TCP port 443`}},
		{"port without listener, relay without UDP", `
  turn_port = 5349`, func(r *Relay) { r.UDPPorts = nil }, "", []string{
			`2 error Nothing listens on the advertised port; TCP port 5349`}},
		{"TLS port without listener", `
  turns_port = 5350`, func(*Relay) {}, "", []string{
			`2 error Nothing listens on the advertised TLS port; TLS port 5350, and endpoint turn "turn" at maddy.conf:30 listens on TLS port 5349, 443.`}},
		{"TLS port, relay without TLS", `
  turns_port = 5349`, func(r *Relay) { r.TLSPorts = nil }, "", []string{
			`2 error Nothing listens on the advertised TLS port; listens on no TLS port`}},
		{"TLS preferred, relay without", `
  turn_prefer_tls = true`, func(r *Relay) { r.TLSPorts = nil }, "", []string{
			`2 error TLS is preferred but not available; The endpoint turn "turn" at maddy.conf:30 has no TLS`}},
		{"TLS preferred on a port of TLS only", `
  turn_prefer_tls = true
  turns_port = 5349`, func(*Relay) {}, "", []string{
			`2 error Preferred port does not answer plain TURN; port 5349`}},
		{"TLS preferred, no port answers everything", `
  turn_prefer_tls = true`, func(r *Relay) { r.UDPPorts = []uint16{3478} }, "", []string{
			`2 error Preferred port does not answer plain TURN; listens on UDP port 3478.`}},
		{"external relay without secret", `
  turn_server = "turn.example.com"`, nil, "", []string{
			`2 error Relay secret is missing; This file has no TURN endpoint`}},
		{"TLS preferred on a port without listener", `
  turn_prefer_tls = true
  turns_port = 5350`, func(*Relay) {}, "", []string{
			`3 error Nothing listens on the advertised TLS port; TLS port 5350`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, block := decode(t, tt.attributes)
			var relay *Relay
			if tt.relay != nil {
				relay = testRelay()
				tt.relay(relay)
			}
			diags := c.Link(relay, block)
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
				if diff := cmp.Diff(tt.want, advertised(c)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// decode decodes the attributes of an endpoint that has no others.
func decode(t *testing.T, attributes string) (c Config, block hcl.Range) {
	t.Helper()
	file, diags := config.Parse("door.conf", []byte(`endpoint "door" "door" {`+attributes+"\n}"))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var door struct{ Schema }
	if diags := file.Endpoints[0].Decode(&door); diags.HasErrors() {
		t.Fatal(diags)
	}
	c, diags = Decode(file.Endpoints[0], door.Schema, "mail.example.org")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return c, file.Endpoints[0].Range
}

// advertised returns what clients are told, in one line.
func advertised(c Config) string {
	turn, turns := c.Values(credential.Credential{})
	secret := ""
	if len(c.Secrets.V) > 0 {
		secret = string(c.Secrets.V[0].Bytes())
	}
	return fmt.Sprint(strings.TrimSuffix(turn, "::"), " ", strings.TrimSuffix(turns, "::"), " ", secret)
}

// TestLinkSecrets checks endpoints that issue only user names and passwords.
func TestLinkSecrets(t *testing.T) {
	block := hcl.Range{Filename: "door.conf", Start: hcl.Pos{Line: 7, Column: 1}}
	for _, tt := range []struct {
		name    string
		secrets []credential.Secret
		relay   *Relay
		want    string // the secret, or else the summary of the error
	}{
		{"of the relay", nil, testRelay(), secretA},
		{"its own, the relay's second", secrets(secretB), testRelay(), secretB},
		{"its own, of an external relay", secrets("of its own"), nil, "of its own"},
		{"another than the relay's", secrets("of its own"), testRelay(), "Relay does not accept this secret"},
		{"none", nil, nil, "Relay secret is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			schema := config.Defaults[CredentialSchema]()
			schema.TurnSecret = config.Value[[]credential.Secret]{V: tt.secrets, Set: tt.secrets != nil}
			c, _ := DecodeCredential(schema)
			if c.TTL.V != 120*time.Hour {
				t.Errorf("credentials live for %v", c.TTL.V)
			}
			if diags := c.LinkSecrets(tt.relay, block); len(diags) > 0 {
				if diags[0].Summary != tt.want {
					t.Errorf("got %v, want %q", diags, tt.want)
				}
			} else if got := string(c.Secrets.V[0].Bytes()); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckRefresh(t *testing.T) {
	for ttl, want := range map[string]int{"43200": 1, "13h": 1, "13h21m": 0, "60": 1} {
		c, _ := decode(t, "\n  turn_ttl = \""+ttl+"\"")
		if diags := c.CheckRefresh(); len(diags) != want || diags.HasErrors() {
			t.Errorf("turn_ttl %s: %v", ttl, diags)
		}
	}
}

// TestURIs checks that clients are told only about addresses that listen.
func TestURIs(t *testing.T) {
	const external = "\n  turn_server = \"turn.example.org\"\n  turn_secret = \"" + secretA + "\"\n"
	none := []uint16(nil)
	for _, tt := range []struct {
		name, attributes string
		relay            *Relay
		want             string
	}{
		{"external", external, nil, "turn:turn.example.org:3478?transport=udp turn:turn.example.org:3478?transport=tcp turns:turn.example.org:5349?transport=tcp"},
		{"external, TLS preferred", external + "turn_prefer_tls = true", nil, "turn:turn.example.org:5349?transport=udp turn:turn.example.org:5349?transport=tcp turns:turn.example.org:5349?transport=tcp"},
		{"external without TLS", external + "turns_port = 0", nil, "turn:turn.example.org:3478?transport=udp turn:turn.example.org:3478?transport=tcp"},
		{"external, UDP alone", external + "turns_port = 0\nturn_transports = [\"udp\"]", nil, "turn:turn.example.org:3478?transport=udp"},
		{"external, TCP and TLS", external + "turn_port = 443\nturn_transports = \"tcp\"", nil, "turn:turn.example.org:443?transport=tcp turns:turn.example.org:5349?transport=tcp"},
		{"all", "", testRelay(), "turn:mail.example.org:3478?transport=udp turn:mail.example.org:3478?transport=tcp turns:mail.example.org:5349?transport=tcp"},
		{"all, and TLS preferred", "\nturn_prefer_tls = true", testRelay(), "turn:mail.example.org:443?transport=udp turn:mail.example.org:443?transport=tcp turns:mail.example.org:443?transport=tcp"},
		{"UDP alone", "", &Relay{UDPPorts: []uint16{3478}, TCPPorts: none}, "turn:mail.example.org:3478?transport=udp"},
		{"TCP alone", "", &Relay{TCPPorts: []uint16{3479}}, "turn:mail.example.org:3479?transport=tcp"},
		{"TLS alone", "", &Relay{TLSPorts: []uint16{443}}, "turns:mail.example.org:443?transport=tcp"},
		{"TCP and TLS", "", &Relay{TCPPorts: []uint16{3478}, TLSPorts: []uint16{443}}, "turn:mail.example.org:3478?transport=tcp turns:mail.example.org:443?transport=tcp"},
		{"TCP and TLS, and TLS preferred", "\nturn_prefer_tls = true", &Relay{TCPPorts: []uint16{3478, 443}, TLSPorts: []uint16{443}}, "turn:mail.example.org:443?transport=tcp turns:mail.example.org:443?transport=tcp"},
		{"TCP on another port", "", &Relay{UDPPorts: []uint16{3478}, TCPPorts: []uint16{443}}, "turn:mail.example.org:3478?transport=udp turn:mail.example.org:443?transport=tcp"},
		{"TCP on the same port among others", "", &Relay{UDPPorts: []uint16{3478}, TCPPorts: []uint16{443, 3478}}, "turn:mail.example.org:3478?transport=udp turn:mail.example.org:3478?transport=tcp"},
		{"one of several ports", "\nturn_port = 443", testRelay(), "turn:mail.example.org:443?transport=udp turn:mail.example.org:443?transport=tcp turns:mail.example.org:5349?transport=tcp"},
		{"of all UDP alone", "\nturn_transports = [\"udp\"]\nturns_port = 0", testRelay(), "turn:mail.example.org:3478?transport=udp"},
		{"of all TCP alone", "\nturn_transports = [\"tcp\"]\nturns_port = 0", testRelay(), "turn:mail.example.org:3478?transport=tcp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, block := decode(t, tt.attributes)
			if tt.relay != nil {
				tt.relay.Secrets = secrets(secretA)
			}
			if diags := c.Link(tt.relay, block); len(diags) > 0 {
				t.Fatal(diags)
			}
			if got := strings.Join(c.URIs(), " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			usable := strings.Contains(tt.want, "transport=udp")
			if diags := c.CheckUDP(block); (len(diags) == 0) != usable || diags.HasErrors() {
				t.Errorf("warnings for Delta Chat: %v", diags)
			}
			if turn, _ := c.Values(credential.Credential{}); (turn != "") != usable {
				t.Errorf("Delta Chat is told %q", turn)
			}
		})
	}
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

// TestIssueTo checks that a credential is recorded in Accounts, and valid without Accounts too.
func TestIssueTo(t *testing.T) {
	c, _ := decode(t, "")
	c.Secrets.V = []credential.Secret{credential.NewSecret([]byte("correct horse battery staple"))}
	now := time.Unix(1758650868, 0)
	if got, want := c.IssueTo("alice@example.org", now), c.Issue(now); got != want {
		t.Errorf("without a memory got %v, want %v", got, want)
	}
	c.Accounts = new(credential.Accounts)
	issued := c.IssueTo("alice@example.org", now)
	if account, ok := c.Accounts.Account(issued.Username); !ok || account != "alice@example.org" {
		t.Errorf("%v is of %q, %v", issued, account, ok)
	}
	// An unknown user never has the same name.
	if other := c.Issue(issued.Expires.Add(-c.TTL.V)); other.Username == issued.Username {
		t.Errorf("%v is issued to somebody else too", other)
	}
}
