package e2e

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// rewrite changes the configuration file, reloads it, and waits until the log contains outcome.
func rewrite(t *testing.T, s *server, path, old, changed, outcome string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(old)) {
		t.Fatalf("no %q in the configuration", old)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte(old), []byte(changed), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	said := len(s.stderr.String())
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.waitForNext(t, s.stderr, said, outcome)
}

// TestReloadRotatesTheSecret puts a new secret before the old one while a call is running.
func TestReloadRotatesTheSecret(t *testing.T) {
	t.Parallel()
	peer(t, "turnutils_uclient", "coturn")
	const newSecret = "the secret of the following week"
	stateDir, p := t.TempDir(), freePorts(t)
	path := configure(t, p, allowLoopback, "")
	s := start(t, stateDir, "--config", path)
	before, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	port, _ := echoPeer(t)
	call := func(t *testing.T, c credential, options ...string) totals {
		return uclient(t, c, p.turn, append([]string{"-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-c", "-m", "1"}, options...)...)
	}

	running := make(chan totals, 1)
	go func() { running <- call(t, before, "-n", "200") }()
	s.waitFor(t, s.stderr, `msg="allocation made"`)
	rewrite(t, s, path, strconv.Quote(secret), "["+strconv.Quote(newSecret)+", "+strconv.Quote(secret)+"]", "msg=reloaded")
	if len(running) > 0 {
		t.Error("the call had ended before the reload")
	}
	(<-running).wantAll(t, 200)

	after, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	if after.password == mint(after.username) {
		t.Error("IMAP still issues under the old secret")
	}
	call(t, after, "-n", "3").wantAll(t, 3)
	call(t, before, "-n", "3").wantAll(t, 3)
}

// TestReloadKeepsTheOldConfiguration checks that a configuration with an error, or one that requires a restart, changes nothing.
func TestReloadKeepsTheOldConfiguration(t *testing.T) {
	t.Parallel()
	stateDir, p := t.TempDir(), freePorts(t)
	path := configure(t, p, "", "")
	s := start(t, stateDir, "--config", path)
	rewrite(t, s, path, "realm ", "relm ", "it has errors")
	rewrite(t, s, path, "relm ", "realm ", "msg=reloaded")
	rewrite(t, s, path, strconv.Quote("example.org"), strconv.Quote("example.net"), "a change of realm requires a restart")
	c, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	if c.password != mint(c.username) {
		t.Error("a reload that failed changed the secret")
	}
	uclient(t, c, p.turn, "-y", "-n", "3", "-m", "2").wantAllBack(t)
}

// TestReloadChangesTheLogLevel raises the log level, as for debugging, and sets an unknown one.
func TestReloadChangesTheLogLevel(t *testing.T) {
	stateDir, p := t.TempDir(), freePorts(t)
	path := configure(t, p, "", "")
	s := start(t, stateDir, "--config", path)
	rewrite(t, s, path, `"debug"`, `"info"`, "msg=reloaded")
	rewrite(t, s, path, `"info"`, `"loud"`, `log level "loud": want debug`)
	quiet := len(s.stderr.String())
	discover(t, p, stateDir, "alice@example.org", "wonderland")
	if said := s.stderr.String()[quiet:]; strings.Contains(said, "level=DEBUG") {
		t.Errorf("at the level info the log says\n%s", said)
	}
	rewrite(t, s, path, `"loud"`, `"debug"`, "msg=reloaded")
	discover(t, p, stateDir, "alice@example.org", "wonderland")
	s.waitFor(t, s.stderr, "level=DEBUG")
}
