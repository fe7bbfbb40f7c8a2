package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
)

// eturnalOptions are those of eturnal 1.12.2, from doc/overview.edoc of its source. proxy_protocol is one of listen's.
var eturnalOptions = []string{
	"blacklist_clients", "blacklist_peers", "credentials", "listen", "log_dir", "log_level", "log_rotate_count", "log_rotate_size", "max_bps",
	"max_permissions", "modules", "proxy_protocol", "realm", "relay_ipv4_addr", "relay_ipv6_addr", "relay_max_port", "relay_min_port", "run_dir",
	"secret", "software_name", "strict_expiry", "tls_ciphers", "tls_crt_file", "tls_dh_file", "tls_key_file", "tls_options", "whitelist_clients",
	"whitelist_peers",
}

// TestEturnal checks that docs/eturnal.md has a row for each option of eturnal, and that the counterparts exist: attributes of the
// relay or of the block that the row names, and commands.
func TestEturnal(t *testing.T) {
	page, err := os.ReadFile("../../docs/eturnal.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []config.BlockReference
	for _, s := range sections() {
		blocks = append(blocks, s.Reference())
	}
	var options []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)`(?: in `listen`)? \\| (?:`([a-z_]+)`(?: in `([a-z]+)`)?)? ?\\| .*\\|$").FindAllStringSubmatch(string(page), -1) {
		options = append(options, row[1])
		block, found := row[3], row[2] == ""
		if block == "" {
			block = "turn"
		}
		for _, b := range blocksNamed(blocks, block) {
			for _, a := range b.Attributes {
				found = found || a.Name == row[2]
			}
		}
		if !found {
			t.Errorf("%s: %s has no attribute %s", row[1], block, row[2])
		}
	}
	if d := cmp.Diff(eturnalOptions, options); d != "" {
		t.Errorf("the options (-eturnal +page):\n%s", d)
	}
	commands := regexp.MustCompile("(?m)^\\| `eturnalctl [^`]+` \\| `mailturn ([^`]+)` \\|$").FindAllStringSubmatch(string(page), -1)
	if len(commands) < 5 {
		t.Errorf("the page has %d commands", len(commands))
	}
	for _, c := range commands {
		args := append(strings.Fields(c[1]), "--socket", filepath.Join(t.TempDir(), "no.socket"))
		var stdout, stderr bytes.Buffer
		if status := execute(args, strings.NewReader(""), &stdout, &stderr); status != 1 {
			t.Errorf("mailturn %s: exit status %d without a server, want 1: %s", c[1], status, &stderr)
		}
	}
}

// TestNeighbours checks that the outputs in docs/neighbours.md are what the commands above them print.
func TestNeighbours(t *testing.T) {
	page, err := os.ReadFile("../../docs/neighbours.md")
	if err != nil {
		t.Fatal(err)
	}
	const secret = "north-of-the-example-and-east-of-it"
	path, stateDir := filepath.Join(t.TempDir(), "maddy.conf"), t.TempDir()
	text := "hostname = \"turn.example.org\"\nendpoint \"turn\" \"turn\" {\n  listen = [\"udp://0.0.0.0:3478\", \"tcp://0.0.0.0:3478\", \"tls://0.0.0.0:5349\"]\n  secret = \"" + secret + "\"\n}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := certs.SelfSigned(stateDir, nil, time.Now()); err != nil { // for TLS, which is not exported without one
		t.Fatal(err)
	}
	outputs := regexp.MustCompile("(?ms)^```\n\\$ sudo mailturn (.*?)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if len(outputs) != 5 {
		t.Fatalf("the page has %d outputs, want 5", len(outputs))
	}
	for _, output := range outputs {
		var stdout, stderr bytes.Buffer
		args := strings.Fields(strings.ReplaceAll(output[1], "/etc/mailturn/maddy.conf", path))
		if status := execute(append(args, "--state-dir", stateDir), strings.NewReader(""), &stdout, &stderr); status != 0 {
			t.Errorf("%s: exit status %d: %s", output[1], status, &stderr)
		}
		if d := cmp.Diff(strings.ReplaceAll(stdout.String(), secret, "SECRET"), output[2]); d != "" {
			t.Errorf("mailturn %s (-program +page):\n%s", output[1], d)
		}
	}
}
