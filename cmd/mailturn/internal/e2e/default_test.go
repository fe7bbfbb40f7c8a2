package e2e

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// printed returns the shell command that the server printed and that starts with these words.
func printed(t *testing.T, output, start string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^\s+(` + regexp.QuoteMeta(start) + `(?:.*\\\n)*.*)$`).FindStringSubmatch(output)
	if m == nil {
		t.Fatalf("no command %q in what the server printed:\n%s", start, output)
	}
	return m[1]
}

// paste runs a command as if it were pasted into a shell.
func paste(t *testing.T, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), uclientLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s: did not end in %v:\n%s", command, uclientLimit, out)
	}
	if err != nil {
		t.Logf("%s: %v", command, err)
	}
	return strings.ReplaceAll(string(out), "\r\n", "\n")
}

// TestEmbeddedDefault runs the server without a configuration twice, runs the checks that it prints, and verifies that the second
// run uses the files of the first.
func TestEmbeddedDefault(t *testing.T) {
	peer(t, "openssl", "openssl")
	peer(t, "turnutils_uclient", "coturn")
	stateDir := filepath.Join(t.TempDir(), "state")
	var kept map[string][]byte
	for range 2 {
		s := start(t, stateDir)
		s.waitFor(t, s.stdout, "Ctrl-C")
		output := s.stdout.String()
		if strings.Contains(s.stderr.String(), "level=WARN") {
			t.Errorf("the server warns of what nobody has configured:\n%s", s.stderr)
		}
		if !strings.Contains(output, "The relay accepts loopback peers, because") {
			t.Errorf("the server does not say why its relay accepts loopback peers:\n%s", output)
		}

		if verdict := paste(t, printed(t, output, "'"+binary+"' probe ")); !strings.HasPrefix(verdict, "OK  A call would connect.") {
			t.Errorf("the printed probe says\n%s", verdict)
		}

		transcript := paste(t, printed(t, output, "printf "))
		parseValue(t, metadata(t, transcript, "/shared/vendor/deltachat/turn"))
		parseValue(t, metadata(t, transcript, "/shared/vendor/deltachat/turns"))

		result := paste(t, printed(t, output, "turnutils_uclient "))
		m := totalLine.FindStringSubmatch(result)
		if m == nil || m[1] == "0" || m[1] != m[2] {
			t.Errorf("the printed turnutils_uclient check did not get back what it sent:\n%s", result)
		}
		s.stop(t)

		files := make(map[string][]byte)
		for _, name := range []string{"turn.secret", "selfsigned.crt", "selfsigned.key", "demo.password"} {
			text, err := os.ReadFile(filepath.Join(stateDir, name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = text
			if strings.Contains(s.stderr.String()+output, string(files["turn.secret"])) {
				t.Error("the secret was printed")
			}
			info, err := os.Stat(filepath.Join(stateDir, name))
			if err != nil {
				t.Fatal(err)
			}
			if name != "selfsigned.crt" && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %o, want 600", name, info.Mode().Perm())
			}
		}
		for name, text := range kept {
			if !bytes.Equal(files[name], text) {
				t.Errorf("the second run made a new %s", name)
			}
		}
		kept = files
	}
}

// TestClosedTerminal checks that a server without a configuration ends with its terminal, and does not keep its ports.
func TestClosedTerminal(t *testing.T) {
	s := start(t, t.TempDir())
	s.cmd.Process.Signal(syscall.SIGHUP)
	select {
	case err := <-s.exited:
		if err != nil {
			t.Errorf("after SIGHUP: %v", err)
		}
	case <-time.After(stopLimit):
		t.Errorf("mailturn still ran %v after SIGHUP", stopLimit)
	}
}

// TestDefaultPortsTaken checks that the error for ports in use explains how to try mailturn beside an existing relay.
func TestDefaultPortsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:3478")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	out, err := exec.Command(binary, "run", "--state-dir", t.TempDir()).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("tcp://127.0.0.1:3478")) || !bytes.Contains(out, []byte("or try --config maddy.conf.example")) {
		t.Errorf("got %v:\n%s", err, out)
	}
}

// TestExampleConfiguration runs the example from the repository unchanged.
func TestExampleConfiguration(t *testing.T) {
	stateDir := t.TempDir()
	start(t, stateDir, "--config", "../../../../maddy.conf.example")
	p := ports{imap: 11143, imaps: 11993, turn: 13478, turns: 15349}
	alice, _ := discover(t, p, stateDir, "alice@localhost", "wonderland")
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			t.Parallel()
			uclient(t, alice, transport.port(p), append([]string{"-y", "-n", "5", "-m", "2"}, transport.options...)...).wantAllBack(t)
		})
	}
}

// TestSecondInterruptEndsAtOnce checks that a second Ctrl-C ends a drain.
func TestSecondInterruptEndsAtOnce(t *testing.T) {
	uclient := peer(t, "turnutils_uclient", "coturn")
	stateDir, p := t.TempDir(), freePorts(t)
	path := configure(t, p, "", "")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte(`"1s"`), []byte(`"1h"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, stateDir, "--config", path)
	alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), uclientLimit)
		defer cancel()
		exec.CommandContext(ctx, uclient, "-y", "-n", "1000", "-m", "2", "-u", alice.username, "-w", alice.password, "-p", alice.port, alice.host).Run()
	}()
	s.waitFor(t, s.stderr, `msg="allocation made"`)
	s.cmd.Process.Signal(os.Interrupt)
	s.waitFor(t, s.stderr, "msg=draining")
	s.cmd.Process.Signal(os.Interrupt)
	select {
	case <-s.exited:
	case <-time.After(stopLimit):
		t.Errorf("mailturn still ran %v after a second interrupt", stopLimit)
		s.cmd.Process.Kill()
		<-s.exited
	}
}
