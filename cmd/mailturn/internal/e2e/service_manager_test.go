package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// notifySocket is where a service manager hears of its services (sd_notify(3)).
type notifySocket struct{ conn *net.UnixConn }

func listenAsManager(t *testing.T, cmd *exec.Cmd) notifySocket {
	t.Helper()
	dir, _ := socketDir(t)
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	cmd.Env = append(cmd.Environ(), "NOTIFY_SOCKET="+path)
	return notifySocket{conn}
}

// next returns the assignments of the next datagram, leaving out those that come with a descriptor.
func (s notifySocket) next(t *testing.T) map[string]string {
	t.Helper()
	for {
		if said := s.receive(t); said["FDSTORE"] == "" {
			return said
		}
	}
}

func (s notifySocket) receive(t *testing.T) map[string]string {
	t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(startLimit))
	buf := make([]byte, 4096)
	n, err := s.conn.Read(buf)
	if err != nil {
		t.Fatalf("nothing said to the service manager: %v", err)
	}
	said := make(map[string]string)
	for line := range strings.Lines(string(buf[:n])) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		said[name] = value
	}
	return said
}

// want is next for a datagram that says state, with a status that begins so.
func (s notifySocket) want(t *testing.T, state, status string) map[string]string {
	t.Helper()
	said := s.next(t)
	if said[state] != "1" || !strings.HasPrefix(said["STATUS"], status) {
		t.Fatalf("got %v, want %s=1 and a STATUS that begins with %q", said, state, status)
	}
	return said
}

// TestServiceManagerIsTold checks the notifications of a Type=notify service from start to stop.
func TestServiceManagerIsTold(t *testing.T) {
	p := freePorts(t)
	path := configure(t, p, "", "")
	cmd := exec.Command(binary, "run", "--state-dir", t.TempDir(), "--config", path)
	manager := listenAsManager(t, cmd)
	s := startCommand(t, cmd)

	const serving = `Serving endpoint turn "turn", endpoint imap "imap"`
	manager.want(t, "READY", serving)
	for _, port := range []int{p.turn, p.turns, p.imap, p.imaps} {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Errorf("ready, and yet: %v", err)
			continue
		}
		conn.Close()
	}

	for _, reload := range []struct{ old, changed, outcome, status string }{
		{"realm ", "relm ", "it has errors", "Configuration not reloaded: it has errors, see the log. " + serving + " with the old one"},
		{"relm ", "realm ", "msg=reloaded", serving},
		{`"example.org"`, `"example.net"`, "requires a restart", `Configuration not reloaded: endpoint turn "turn": a change of realm requires a restart. ` + serving + " with the old one"},
	} {
		rewrite(t, s, path, reload.old, reload.changed, reload.outcome)
		if said := manager.want(t, "RELOADING", ""); len(said["MONOTONIC_USEC"]) < 4 {
			t.Errorf("no time in %v", said)
		}
		if said := manager.want(t, "READY", serving[:0]); said["STATUS"] != reload.status {
			t.Errorf("the status after a reload is\n%q, want\n%q", said["STATUS"], reload.status)
		}
	}

	s.stop(t)
	said := manager.want(t, "STOPPING", "Draining: refusing new calls, running ones may continue for up to 1s")
	if said["EXTEND_TIMEOUT_USEC"] != "26000000" {
		t.Errorf("got %v, want drain_timeout and 25s to stop", said)
	}
}

// TestServiceManagerIsNotToldOfAFailedStart checks that READY=1 is sent only when every endpoint listens.
func TestServiceManagerIsNotToldOfAFailedStart(t *testing.T) {
	p := freePorts(t)
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p.imaps))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cmd := exec.Command(binary, "run", "--state-dir", t.TempDir(), "--config", configure(t, p, "", ""))
	manager := listenAsManager(t, cmd)
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("address already in use")) {
		t.Errorf("got %v:\n%s", err, out)
	}
	manager.conn.SetReadDeadline(time.Now())
	if n, err := manager.conn.Read(make([]byte, 4096)); err == nil {
		t.Errorf("%d bytes were said", n)
	}
}

// TestUnreachableServiceManager checks that mailturn serves without its service manager.
func TestUnreachableServiceManager(t *testing.T) {
	cmd := exec.Command(binary, "run", "--state-dir", t.TempDir(), "--config", configure(t, freePorts(t), "", ""))
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(t.TempDir(), "nobody"))
	s := startCommand(t, cmd)
	s.waitFor(t, s.stderr, `msg="telling the service manager"`)
}
