package coturn

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

var update = flag.Bool("update", false, "write what is made of the files in testdata")

// TestImport translates the files of testdata and compares the results with the .hcl files there.
func TestImport(t *testing.T) {
	names, err := filepath.Glob("testdata/*.conf")
	if err != nil || len(names) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := translate(t, string(text))
			golden := strings.TrimSuffix(name, ".conf") + ".hcl"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
			decode(t, strings.ReplaceAll(got, "/etc/coturn", certificate(t)))
		})
	}
}

// TestImportNumericUser checks that a telephone extension remains a user name.
func TestImportNumericUser(t *testing.T) {
	c := decode(t, translate(t, "lt-cred-mech\nuser=1001:correct horse battery\nrealm=example.org\n"))
	if got := string(c.Users["1001"].Bytes()); got != "correct horse battery" || len(c.Users) != 1 {
		t.Errorf("1001 has the password %q, and there are %d users", got, len(c.Users))
	}
}

// translate returns the translation of a file in /etc/coturn.
func translate(t testing.TB, text string) string {
	t.Helper()
	directives, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Translate(directives, "/etc/coturn").Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// decode decodes a configuration, and fails the test on errors.
func decode(t testing.TB, text string) turn.Config {
	t.Helper()
	file, diags := config.Parse("maddy.conf", []byte(text))
	if diags.HasErrors() || len(file.Endpoints) == 0 {
		t.Fatalf("%v\n%s", diags, text)
	}
	c, diags := turn.Decode(file.Endpoints[0], turn.Defaults{Hostname: "localhost"})
	if diags.HasErrors() {
		t.Fatalf("%v\n%s", diags, text)
	}
	return c
}

// certificate creates cert.pem and key.pem.
func certificate(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	pair, _, err := certs.SelfSigned(dir, []string{"localhost"}, time.Now())
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

// TestEveryDirective checks that each directive that coturn knows changes the result or has a remark.
func TestEveryDirective(t *testing.T) {
	text, err := os.ReadFile("testdata/directives.txt")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{
		"listening-port": "3479", "tls-listening-port": "5350", "listening-ip": "127.0.0.1", "relay-ip": "192.0.2.1",
		"external-ip": "192.0.2.1", "min-port": "50000", "max-port": "60000", "realm": "example.org", "user": "alice:wonderland",
		"static-auth-secret": "a secret of the test with 32 bytes", "user-quota": "3", "total-quota": "4", "max-bps": "5",
		"bps-capacity": "6", "stale-nonce": "300", "max-allocate-lifetime": "1800", "allowed-peer-ip": "10.0.0.1",
		"denied-peer-ip": "9.0.0.0-9.255.255.255", "allocation-default-address-family": "keep", "cert": "cert.pem", "pkey": "key.pem",
		"prometheus-port": "9642", "prometheus-address": "127.0.0.1",
	}
	nothing := translate(t, "")
	checked := 0
	for name := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
		if strings.HasPrefix(name, "#") {
			continue
		}
		checked++
		line := name
		if value := values[name]; value != "" {
			line += "=" + value
		}
		got := translate(t, line+"\n")
		if strings.Contains(got, "no such directive") {
			t.Errorf("%s is not known", name)
		}
		if got == nothing {
			t.Errorf("%s is ignored", line)
		}
	}
	if checked < 140 {
		t.Errorf("%d directives, want all", checked)
	}
	for name := range reasons {
		if _, twice := translations[name]; twice {
			t.Errorf("%s is both translated and not", name)
		}
	}
}

// TestRoundTrip exports configurations and imports them again.
func TestRoundTrip(t *testing.T) {
	dir := certificate(t)
	secret := func(texts ...string) (list []credential.Secret) {
		for _, text := range texts {
			list = append(list, credential.NewSecret([]byte(text)))
		}
		return list
	}
	full := func() turn.Config {
		return turn.Config{
			Listen: []listen.Addr{
				{Scheme: "udp", Port: 3478}, {Scheme: "tcp", Port: 3478}, {Scheme: "tls", Port: 5349}, {Scheme: "dtls", Port: 5349},
			},
			TLS:     []certs.Pair{{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}},
			Realm:   "example.org",
			Secrets: secret(`correct "horse" ${battery} staple=#`, "battery staple correct horse"),
			RelayIP: []netip.Addr{netip.MustParseAddr("198.51.100.7")},
			Settings: turn.Settings{
				RelayPorts:    config.Value[turn.PortRange]{V: turn.PortRange{Min: 49152, Max: 65535}},
				TotalQuota:    10000,
				NonceLifetime: config.Value[time.Duration]{V: 10 * time.Minute},
				MaxLifetime:   config.Value[time.Duration]{V: time.Hour},
			},
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*turn.Config)
	}{
		{"defaults", func(*turn.Config) {}},
		{"NAT, both families", func(c *turn.Config) {
			c.RelayIP = append(c.RelayIP, netip.MustParseAddr("2001:db8::7"))
			c.RelayBind = []netip.Addr{netip.MustParseAddr("10.0.0.7")}
		}},
		{"one address, other ports", func(c *turn.Config) {
			c.Listen = []listen.Addr{{Scheme: "udp", Host: "198.51.100.7", Port: 443}, {Scheme: "tls", Host: "198.51.100.7", Port: 444}}
			c.RelayPorts.V = turn.PortRange{Min: 50000, Max: 50999}
		}},
		{"plain only, IPv6 too", func(c *turn.Config) {
			c.TLS = nil
			c.Listen = []listen.Addr{{Scheme: "udp", Host: "0.0.0.0", Port: 3478}, {Scheme: "udp", Host: "::", Port: 3478}}
		}},
		{"both families, and no address of this machine", func(c *turn.Config) {
			c.RelayIP = append(c.RelayIP, netip.MustParseAddr("2001:db8::7"))
		}},
		{"IPv6 alone", func(c *turn.Config) { c.RelayIP = []netip.Addr{netip.MustParseAddr("2001:db8::7")} }},
		{"without DTLS", func(c *turn.Config) { c.Listen = c.Listen[:3] }},
		{"a secret that begins like a value", func(c *turn.Config) { c.Secrets = secret(`= "quoted" `, `"`, " ", "=abc;") }},
		{"users", func(c *turn.Config) {
			c.Secrets = nil
			c.Users = map[string]credential.Secret{
				"alice": credential.NewSecret([]byte("correct horse: battery")),
				"bob":   credential.NewSecret([]byte("ha1:0123456789abcdef0123456789abcdef")),
			}
		}},
		{"limits", func(c *turn.Config) {
			c.TotalQuota, c.UserQuota, c.MaxBPS, c.TotalBPS = 7, 3, 8000, 80000
			c.NonceLifetime.V, c.MaxLifetime.V = 5*time.Minute, 30*time.Minute
			c.DefaultFamily = turn.Family(relay.ClientFamily)
		}},
		{"peers", func(c *turn.Config) {
			c.DefaultFamily = turn.Family(relay.OnlyIPv4)
			c.Peers.Allow.V = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("127.0.0.0/8")}
			c.Peers.Deny = []netip.Prefix{netip.MustParsePrefix("9.9.0.0/16"), netip.MustParsePrefix("2606::/16")}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := full()
			tt.change(&want)
			var exported bytes.Buffer
			if err := Export(&exported, want); err != nil {
				t.Fatal(err)
			}
			got := decode(t, translate(t, exported.String()))
			if diff := cmp.Diff(flat(want), flat(got)); diff != "" {
				t.Errorf("%s\nexported as\n%s", diff, &exported)
			}
		})
	}
}

// flat is the part of a configuration that coturn's file can express.
func flat(c turn.Config) (list []string) {
	for _, a := range c.Listen {
		list = append(list, "listen "+a.String())
	}
	for _, pair := range c.TLS {
		list = append(list, "tls "+pair.Cert+" "+pair.Key)
	}
	for _, s := range c.Secrets {
		list = append(list, "secret "+string(s.Bytes()))
	}
	for name, password := range c.Users {
		list = append(list, "user "+name+" "+string(password.Bytes()))
	}
	list = append(list, fmt.Sprint("relay ", c.RelayIP, c.RelayBind, c.RelayPorts.V, c.DefaultFamily), "realm "+c.Realm,
		fmt.Sprint("peers ", c.Peers.Allow.V, c.Peers.Deny), fmt.Sprint("limits ", c.TotalQuota, c.UserQuota, c.SourceQuota, c.MaxBPS, c.TotalBPS, c.NonceLifetime.V, c.MaxLifetime.V))
	slices.Sort(list)
	return list
}

// TestExportRefusesNoIPv4 checks for ranges of IPv6 addresses that coturn mistakes for all IPv4 addresses.
func TestExportRefusesNoIPv4(t *testing.T) {
	var b bytes.Buffer
	if err := Export(&b, turn.Config{Realm: "example.org"}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "denied-peer-ip=10.0.0.0-10.255.255.255\n") || !strings.Contains(b.String(), "denied-peer-ip=fc00::-") {
		t.Errorf("what mailturn refuses by default is not refused:\n%s", &b)
	}
	for line := range strings.Lines(b.String()) {
		if network, ok := strings.CutPrefix(line, "denied-peer-ip=::"); ok && !strings.HasPrefix(network, "ffff:0:") { // RFC 2765's
			t.Errorf("coturn would mistake this for IPv4 addresses: %s", line)
		}
	}
}

func TestExportRefusals(t *testing.T) {
	secret := func(text string) credential.Secret { return credential.NewSecret([]byte(text)) }
	for _, tt := range []struct {
		change func(*turn.Config)
		want   string
	}{
		{func(c *turn.Config) { c.Secrets = []credential.Secret{secret("hush hush\nrealm=x")} }, "a secret contains a line break"},
		{func(c *turn.Config) { c.Secrets = []credential.Secret{secret(strings.Repeat("hush", 400))} }, "more than 1000 bytes"},
		{func(c *turn.Config) { c.Users = map[string]credential.Secret{"a:b": secret("hush hush")} }, "the first colon"},
		{func(c *turn.Config) { c.Users = map[string]credential.Secret{"a": secret("hush\rhush")} }, "the password of user a contains a line break"},
	} {
		c := turn.Config{Realm: "example.org"}
		tt.change(&c)
		var b bytes.Buffer
		err := Export(&b, c)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hush") || b.Len() > 0 {
			t.Errorf("got %v and %q, want %s", err, &b, tt.want)
		}
	}
}

func TestParse(t *testing.T) {
	const text = "\ufeff# a comment\n\n  realm=example.org\nrealm example.com\nrealm = example.net  \r\nno-udp\nuser=\"alice:wonder land\"\n\tuser\tbob:builder=#1\nstatic-auth-secret=a=b\nlt-cred-mech=\n" +
		"static-auth-secret== a\nstatic-auth-secret=\"= a \"\n"
	want := []Directive{
		{3, "realm", "example.org"}, {4, "realm", "example.com"}, {5, "realm", "example.net"}, {6, "no-udp", ""},
		{7, "user", "alice:wonder land"}, {8, "user", "bob:builder=#1"}, {9, "static-auth-secret", "a=b"}, {10, "lt-cred-mech", ""},
		{11, "static-auth-secret", "a"}, {12, "static-auth-secret", "= a "},
	}
	got, err := Parse(strings.NewReader(text))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for name, text := range map[string]string{
		"too long":  strings.Repeat("x", maxSize+1),
		"too large": strings.Repeat(strings.Repeat("#", 99)+"\n", maxSize/100+1),
		"too many":  strings.Repeat("a\n", maxLines+1),
	} {
		if _, err := Parse(strings.NewReader(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzImport checks that our parser accepts the translation of any file, and that each directive is translated or has a remark.
func FuzzImport(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.conf")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("user=${x}:%{y}\nrealm=\"\nexternal-ip=1.2.3.4/::1\ndenied-peer-ip=::-ffff::\nallowed-peer-ip=0.0.0.0/0\n")
	f.Fuzz(func(t *testing.T, text string) {
		directives, err := Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		i := Translate(directives, "/etc/coturn")
		var b bytes.Buffer
		if err := i.Write(&b); err != nil {
			t.Fatal(err)
		}
		file, diags := config.Parse("maddy.conf", b.Bytes())
		if diags.HasErrors() || len(file.Endpoints) == 0 {
			t.Fatalf("%v\n%s", diags, &b)
		}
		for _, diag := range func() hcl.Diagnostics { var s turn.Schema; return file.Endpoints[0].Decode(&s) }() {
			if diag.Severity == hcl.DiagError {
				t.Fatalf("%v\n%s", diag, &b)
			}
		}
	})
}

// FuzzExportSecret checks that every exported secret is read back unchanged.
func FuzzExportSecret(f *testing.F) {
	for _, seed := range []string{"correct horse", "= a", `"quoted"`, " ", "a\u00a0", "\va", "#;", "\ufeffa", "a\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, secret string) {
		var e exporter
		if err := e.secret("static-auth-secret", secret, "a secret"); err != nil {
			return
		}
		directives, err := Parse(strings.NewReader(e.text.String()))
		if want := []Directive{{1, "static-auth-secret", secret}}; err != nil || !slices.Equal(directives, want) {
			t.Errorf("%q is read as %v, %v", e.text.String(), directives, err)
		}
	})
}
