package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// TestEveryCommandIsDocumented checks the list of commands.
func TestEveryCommandIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range newRootCommand().Commands() {
		if !command.Hidden && !regexp.MustCompile("`mailturn "+command.Name()+`\b`).Match(text) {
			t.Errorf("docs/commands.md does not mention mailturn %s", command.Name())
		}
	}
}

// TestDocumentedCommandLines checks that documented commands and flags exist.
func TestDocumentedCommandLines(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	others, err := filepath.Glob("../../*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range slices.Concat(pages, others, []string{"../../maddy.conf.example", "../../dist/mailturn.service"}) {
		if filepath.Base(name) == "interop.md" {
			continue // which is written by tests of these commands
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range regexp.MustCompile("\\bmailturn ([a-z-]+ [^`|\n]*--[^`|\n]*)").FindAllStringSubmatch(string(text), -1) {
			cmd, args, err := newRootCommand().Find(strings.Fields(strings.NewReplacer("[", "", "]", "", "$MAINPID", "1").Replace(line[1])))
			if err == nil {
				err = cmd.ParseFlags(args)
			}
			if err != nil {
				t.Errorf("%s: %s: %v", name, line[0], err)
			}
			found++
		}
	}
	if found < 10 {
		t.Errorf("found %d command lines with flags", found)
	}
}

// TestExitStatus checks the exit statuses of usage errors and of other errors.
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
		{"group", []string{"ctl"}, 0},
		{"unknown command of ctl", []string{"ctl", "foo"}, 2},
		{"unknown command of completion", []string{"completion", "foo"}, 2},
		{"unknown topic", []string{"help", "foo"}, 2},
		{"unknown topic of ctl", []string{"help", "ctl", "foo"}, 2},
		{"topic", []string{"help", "ctl", "ban"}, 0},
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

// TestDocumentedDovecot checks that the documented lines for Dovecot are those that are exported.
func TestDocumentedDovecot(t *testing.T) {
	config := filepath.Join(t.TempDir(), "maddy.conf")
	for _, tt := range []struct{ name, document, indent, version, config string }{
		{"in front", "imap.md", "       ", "2.4", `endpoint "imap" "imap" {
  turn_enable = false
  upstream {
    address        = "tcp://127.0.0.1:1143"
    client_address = "id"
  }
}`},
		{"dictionary of 2.3", "credentials.md", "    ", "2.3", dictConfig},
		{"dictionary of 2.4", "credentials.md", "    ", "2.4", dictConfig},
	} {
		if err := os.WriteFile(config, []byte(tt.config), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		if status := execute([]string{"export", "dovecot", "--dovecot-version", tt.version, "--config", config, "--state-dir", t.TempDir()},
			strings.NewReader(""), &stdout, &stderr); status != 0 {
			t.Fatalf("%s: %s", tt.name, &stderr)
		}
		lines := "\n" + regexp.MustCompile(`(?m)^`).ReplaceAllString(strings.TrimSpace(stdout.String()), tt.indent) + "\n\n"
		text, err := os.ReadFile(filepath.Join("../../docs", tt.document))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte(lines)) {
			t.Errorf("%s: docs/%s does not have%s", tt.name, tt.document, lines)
		}
	}
}

// dictConfig has the documented endpoint "dict".
const dictConfig = `endpoint "dict" "dovecot" {
  path        = "/run/mailturn/dict.socket"
  turn_server = "turn.example.org"
  turn_secret = "correct horse battery staple"
}`
