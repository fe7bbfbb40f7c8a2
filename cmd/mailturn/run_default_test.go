package main

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv"
)

// TestProgram checks that printed shell commands find this program.
func TestProgram(t *testing.T) {
	const rerun = "go run github.com/mailturn/mailturn/cmd/mailturn"
	for _, tt := range []struct {
		executable string
		err        error
		want       string
	}{
		{"/usr/local/bin/mailturn", nil, "'/usr/local/bin/mailturn'"},
		{"/home/alice/go-builds/mailturn", nil, "'/home/alice/go-builds/mailturn'"},
		{"/tmp/go-build211565035/b001/exe/mailturn", nil, rerun},
		{"/home/alice/.cache/go-build/e4/e4b9dd0de82ff073f3905456ed8e8ceea40aaa3ea0aa6f96c88ce9cc6563691d-d/mailturn", nil, rerun},
		{"/var/cache/go/e4/e4b9dd0de82ff073f3905456ed8e8ceea40aaa3ea0aa6f96c88ce9cc6563691d-d/mailturn", nil, rerun},
		{"", errors.New("unknown"), "mailturn"},
	} {
		if got := program(tt.executable, tt.err); got != tt.want {
			t.Errorf("program(%q) = %q, want %q", tt.executable, got, tt.want)
		}
	}
}

// TestDemoLeavesDovecotItsPort checks that the embedded default can run beside a Dovecot that was set up as documented.
func TestDemoLeavesDovecotItsPort(t *testing.T) {
	page, err := os.ReadFile("../../docs/imap.md")
	if err != nil {
		t.Fatal(err)
	}
	ports := regexp.MustCompile(`(?m)^ +port = ([1-9][0-9]*)$`).FindAllSubmatch(page, -1)
	if len(ports) == 0 {
		t.Error("docs/imap.md names no port for Dovecot")
	}
	for _, port := range ports {
		if bytes.Contains(defaultConfig, append([]byte(":"), append(port[1], '"')...)) {
			t.Errorf("the embedded default listens on port %s, as Dovecot does", port[1])
		}
	}
}

// TestDemo checks that the demo leaves the kernel alone, stops at once, and explains itself.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	password, err := demoPassword(dir)
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	s, err := decodeDefault(dir, &printed)
	if err != nil {
		t.Fatalf("%v\n%s", err, &printed)
	}
	if got := turnsrv.KernelPath(s.relays[0].KernelPath); got != turnsrv.KernelPathOff {
		t.Errorf("kernel_path is %v, want off", got)
	}
	if got := s.drainTimeout(); got != 0 {
		t.Errorf("it drains for %v", got)
	}
	if _, err := s.prepare(time.Now()); err != nil {
		t.Fatal(err)
	}
	printChecks(&printed, s, password)
	const peers = "The relay accepts loopback peers, because it listens\nonly on loopback; a relay with your own configuration refuses them unless \"peers\" allows them."
	if !strings.Contains(printed.String(), peers) {
		t.Errorf("it does not print\n%s\nbut\n%s", peers, &printed)
	}
	const reload = "nothing to reload: this mailturn runs without a configuration file"
	if _, err := new(operators).reload(nil, nil); err == nil || err.Error() != reload {
		t.Errorf("a reload says %v, want %s", err, reload)
	}
}
