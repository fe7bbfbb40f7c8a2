package main

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write what the commands print into the scripts in testdata")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mailturn": main})
}

// TestScript runs the command lines in testdata.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_STATE_HOME", env.WorkDir+"/state")
			env.Setenv("STATE_DIRECTORY", env.WorkDir+"/state/mailturn") // also as root
			env.Setenv("REPOSITORY", repository(t))
			return nil
		},
	})
}

func repository(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(dir, "/cmd/mailturn")
}

// TestReadmeNamesEveryCommand keeps the README's list of commands true.
func TestReadmeNamesEveryCommand(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range newRootCommand().Commands() {
		if !regexp.MustCompile(`mailturn ` + command.Name() + `\b`).Match(readme) {
			t.Errorf("README.md does not mention mailturn %s", command.Name())
		}
	}
}

// TestExitStatus tells errors of usage from those of the command's work.
func TestExitStatus(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want int
	}{
		{"help", []string{"--help"}, 0},
		{"version", []string{"version"}, 0},
		{"unknown command", []string{"serve"}, 2},
		{"unknown flag", []string{"run", "--port", "1"}, 2},
		{"missing argument", []string{"check-config"}, 2},
		{"superfluous argument", []string{"version", "x"}, 2},
		{"missing neighbour", []string{"export"}, 2},
		{"unknown neighbour", []string{"export", "sendmail"}, 2},
		{"missing file", []string{"check-config", "/nonexistent/maddy.conf"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if got := execute(tt.args, strings.NewReader(""), &stdout, &stderr); got != tt.want {
				t.Errorf("got exit status %d, want %d\nstdout: %s\nstderr: %s", got, tt.want, &stdout, &stderr)
			}
			if (stderr.Len() > 0) != (tt.want != 0) {
				t.Errorf("got %q on stderr with exit status %d", &stderr, tt.want)
			}
		})
	}
}
