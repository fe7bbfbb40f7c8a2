package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/resolver"
)

// fakeDNS is a name server that does not answer for one of its names.
func fakeDNS(ctx context.Context, host string) ([]netip.Addr, error) {
	switch host {
	case "gone.test":
		return nil, &resolver.Error{Name: host, Err: resolver.ErrNXDOMAIN}
	case "slow.test":
		return nil, &resolver.Error{Name: host, Err: resolver.ErrTimeout}
	}
	return resolver.Fake(map[string][]netip.Addr{
		"mail.test":    {netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("10.0.0.7")},
		"turn.test":    {netip.MustParseAddr("2a00::1")},
		"lan.test":     {netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")},
		"carrier.test": {netip.MustParseAddr("100.64.0.7")},
	}).LookupNetIP(ctx, "ip", host)
}

// TestExamine compares configurations with DNS and with a certificate for mail.test and realm.test.
func TestExamine(t *testing.T) {
	pair, _, err := certs.SelfSigned(t.TempDir(), []string{"mail.test", "realm.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tls := fmt.Sprintf("tls {\n cert = %q\n key = %q\n}\n", pair.Cert, pair.Key)
	const (
		relay    = "relay_ip = \"8.8.8.8\"\n secret = \"correct horse battery staple\"\n"
		upstream = "upstream {\n address = \"tcp://127.0.0.1:1143\"\n client_address = \"id\"\n}\n"
		turn     = "endpoint \"turn\" \"turn\" {\n" + relay + "}\n"
		imap     = "endpoint \"imap\" \"imap\" {\n" + upstream
	)
	tests := []struct {
		name, text string
		want       []string // warnings, in the order of the file
	}{
		{"good", "hostname = \"mail.test\"\n" + tls + turn + imap + "}\n", nil},
		{"clients at one address", "hostname = \"mail.test\"\n" + tls + turn + "endpoint \"imap\" \"imap\" {\nupstream {\n address = \"tcp://127.0.0.1:1143\"\n}\n}\n",
			[]string{"All clients share one address: The IMAP server sees all clients at mailturn's address"}},
		{"clients at one address, on purpose", "hostname = \"mail.test\"\n" + tls + turn + "endpoint \"imap\" \"imap\" {\nupstream {\n address = \"tcp://127.0.0.1:1143\"\n client_address = \"none\"\n}\n}\n", nil},
		{"not in DNS", "hostname = \"gone.test\"\n" + turn, []string{"Name is not in DNS: hostname is gone.test"}},
		{"no answer", "hostname = \"slow.test\"\n" + turn, []string{"Name was not looked up: hostname is slow.test"}},
		{"private", "hostname = \"lan.test\"\n" + turn, []string{
			"Server cannot be reached by its name: hostname is lan.test, for which DNS has only 10.0.0.7, a private address (RFC 1918), and fd00::7, a unique local address"}},
		{"behind a carrier", "hostname = \"carrier.test\"\n" + turn, []string{"Server cannot be reached by its name"}},
		{"localhost", "hostname = \"localhost\"\n" + turn, []string{"Name resolves to each client's own machine: hostname is localhost"}},
		{"turn_server", "hostname = \"mail.test\"\n" + tls + turn + imap + "turn_server = \"gone.test\"\nturns_port = 0\n}\n", []string{"Name is not in DNS: turn_server is gone.test"}},
		{"address of a turn_server", "hostname = \"mail.test\"\n" + tls + turn + imap + "turn_server = \"192.168.0.7\"\nturns_port = 0\n}\n", []string{
			"Server cannot be reached by its address: turn_server is 192.168.0.7, a private address"}},
		{"several relays", "hostname = \"mail.test\"\n" + tls + imap +
			"relay {\n turn_server = \"gone.test\"\n turn_secret = \"correct horse battery staple\"\n}\nrelay {\n turn_server = \"turn.test\"\n turn_secret = \"correct horse battery staple\"\n}\n}\n",
			[]string{"Name is not in DNS: turn_server is gone.test"}},
		{"certificate without turn_server", "hostname = \"mail.test\"\n" + tls + turn + imap + "turn_server = \"turn.test\"\n}\n", []string{
			"Certificate lacks a name: turn_server is turn.test, and " + pair.Cert + " is for mail.test, realm.test, localhost"}},
		{"certificate without one of several relays", "hostname = \"mail.test\"\n" + tls + turn + imap +
			"relay {\n turn_server = \"turn.test\"\n}\nrelay {\n turn_server = \"mail.test\"\n turn_port = 3479\n turn_secret = \"another horse battery staple\"\n}\n}\n", []string{
			"Certificate lacks a name: turn_server is turn.test"}},
		{"relays elsewhere", "hostname = \"mail.test\"\n" + tls + imap +
			"relay {\n turn_server = \"turn.test\"\n turn_secret = \"another horse battery staple\"\n}\n}\n", nil},
		{"certificate without hostname", "hostname = \"turn.test\"\n" + tls + turn + imap + "}\n", []string{"Certificate lacks a name: hostname is turn.test"}},
		{"names of realms", "hostname = \"mail.test\"\n" + tls + "endpoint \"turn\" \"turn\" {\n" + relay +
			"user_realm \"realm.test\" {\n users = { \"alice\" = \"a long password\" }\n}\nuser_realm \"other.test\" {\n users = { \"alice\" = \"a long password\" }\n}\n}\n", []string{
			"Certificate lacks a name: a name of user_realm is other.test"}},
		{"relay without TLS", "hostname = \"turn.test\"\n" + tls + "endpoint \"turn\" \"turn\" {\n listen = \"udp://*:3478\"\n" + relay + "}\n", nil},
		{"private relay_ip of the machine", "hostname = \"mail.test\"\nendpoint \"turn\" \"turn\" {\n listen = \"udp://10.0.0.7:3478\"\n}\n", []string{
			"Relay cannot be reached: Without relay_ip, the relay's address is 10.0.0.7: a private address"}},
		{"on loopback", "hostname = \"localhost\"\n" + tls + "endpoint \"turn\" \"turn\" {\n listen = [\"udp://127.0.0.1:3478\", \"tls://[::1]:5349\"]\n relay_ip = \"127.0.0.1\"\n}\n", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "maddy.conf")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			file, s, diags := read(path, "")
			if len(diags) > 0 {
				var out bytes.Buffer
				file.WriteDiagnostics(&out, diags)
				t.Fatal(out.String())
			}
			x := examination{file: file, setup: s, lookup: fakeDNS}
			diags = x.examine(t.Context())
			if diags.HasErrors() || len(diags) != len(test.want) {
				t.Errorf("got %v, want %q", diags, test.want)
				return
			}
			for i, d := range diags {
				if got := d.Summary + ": " + d.Detail; !strings.HasPrefix(got, test.want[i]) {
					t.Errorf("got %q, want %q", got, test.want[i])
				}
			}
		})
	}
}

// TestCheckConfigStatus is what a script, and ExecReload= of the unit, can tell.
func TestCheckConfigStatus(t *testing.T) {
	dir := t.TempDir()
	expired, _, err := certs.SelfSigned(dir, []string{"mail.example.org"}, time.Now().AddDate(-2, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	config := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const turn = "endpoint \"turn\" \"turn\" {\n realm = \"r\"\n listen = \"tls://127.0.0.1:5349\"\n relay_ip = \"127.0.0.1\"\n"
	good := config("good.conf", strings.Replace(turn, "tls://", "tcp://", 1)+"}\n")
	doubtful := config("doubtful.conf", turn+fmt.Sprintf("tls {\n cert = %q\n key = %q\n}\n}\n", expired.Cert, expired.Key))
	wrong := config("wrong.conf", turn+"relm = \"x\"\n}\n")
	for _, test := range []struct {
		args           []string
		status         int
		stdout, stderr string
	}{
		{[]string{good}, 0, ": OK: endpoint", ""},
		{[]string{"--strict", good}, 0, ": OK: endpoint", ""},
		{[]string{doubtful}, 0, ": OK, with warnings (1): endpoint", "warning: Certificate must be renewed: " + expired.Cert + " expired on"},
		{[]string{"--strict", doubtful}, exitWarnings, "with warnings (1)", "expired on"},
		{[]string{"--strict", wrong}, exitFailure, "", "relm"},
		{[]string{"--user", "nobody-of-that-name", good}, exitFailure, "", "nobody-of-that-name"},
		{[]string{"--sctrict", good}, exitUsage, "", "unknown flag"},
	} {
		var stdout, stderr bytes.Buffer
		status := execute(append([]string{"check-config"}, test.args...), io.MultiReader(), &stdout, &stderr)
		if status != test.status || !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) ||
			test.stdout == "" && stdout.Len() > 0 || test.stderr == "" && stderr.Len() > 0 {
			t.Errorf("check-config %q: status %d, want %d\n%s%s", test.args, status, test.status, &stdout, &stderr)
		}
	}
}
