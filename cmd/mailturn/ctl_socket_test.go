package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/provision"
)

// TestCtlOfAnotherConfiguration checks that a command for a server that is not running does not reach the server of the system.
func TestCtlOfAnotherConfiguration(t *testing.T) {
	system := run(t, controlled)
	t.Setenv("STATE_DIRECTORY", system.dir)
	dir := t.TempDir()
	file := filepath.Join(dir, "maddy.conf")
	configuration := strings.Replace(controlled, "hostname", "state_dir = \""+dir+"\"\nhostname", 1)
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ban", "203.0.113.9"}, {"disconnect", "--all"}} {
		var output bytes.Buffer
		status := execute(append([]string{"ctl", "--config", file}, args...), strings.NewReader(""), &output, &output)
		if want := filepath.Join(dir, controlSocket); status != exitFailure || !strings.Contains(output.String(), want) {
			t.Errorf("ctl %s: exit status %d, want %d and the path %s; it prints\n%s", strings.Join(args, " "), status, exitFailure, want, &output)
		}
	}
	system.want(t, 0, "There are no bans.", "bans")
}

// TestCtlSockets checks where ctl looks for the socket.
func TestCtlSockets(t *testing.T) {
	dir, own := t.TempDir(), filepath.Join(t.TempDir(), "own")
	file := filepath.Join(dir, "maddy.conf")
	stateDir := filepath.Join(dir, "state")
	for _, tt := range []struct {
		name, runtime, config string
		isUnits               bool
		want                  []string
		err                   string
	}{
		{name: "without a configuration", want: []string{serviceSocket, filepath.Join(own, controlSocket)}},
		{name: "without a configuration in a unit", runtime: "/run/other", want: []string{serviceSocket, "/run/other/control.socket"}},
		{name: "path", config: `control { path = "/srv/mailturn.socket" }`, isUnits: true, want: []string{"/srv/mailturn.socket"}},
		{name: "state directory", config: " ", want: []string{filepath.Join(stateDir, controlSocket)}},
		{name: "in a unit", runtime: "/run/other", config: " ", want: []string{"/run/other/control.socket", filepath.Join(stateDir, controlSocket)}},
		{name: "the unit's configuration", config: " ", isUnits: true, want: []string{serviceSocket, filepath.Join(stateDir, controlSocket)}},
		{name: "the unit's configuration in the unit", runtime: filepath.Dir(serviceSocket), config: " ", isUnits: true,
			want: []string{serviceSocket, filepath.Join(stateDir, controlSocket)}},
		{name: "disabled", config: `control { enable = false }`, err: "there is no control socket: " + file + " disables it"},
	} {
		t.Setenv("STATE_DIRECTORY", own)
		t.Setenv("RUNTIME_DIRECTORY", tt.runtime)
		var c ctl
		c.flags(new(cobra.Command)) // as ctl and upgrade do
		if c.unitFile != provision.ConfigFile {
			t.Fatalf("the configuration of the unit is %q, want %q", c.unitFile, provision.ConfigFile)
		}
		if tt.config != "" {
			c.configFile = file
			if err := os.WriteFile(file, []byte("state_dir = \""+stateDir+"\"\n"+controlled+tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if tt.isUnits {
			c.unitFile = file
		}
		var diagnostics bytes.Buffer
		got, err := c.sockets(&diagnostics)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: error %v, want %s", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, error %v, want %q\n%s", tt.name, got, err, tt.want, &diagnostics)
		}
	}
}
