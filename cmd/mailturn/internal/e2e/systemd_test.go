package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/probe"
)

// kernelPathDropIn is the drop-in with which the kernel may relay calls.
const kernelPathDropIn = "kernel-path/mailturn.service.d/kernel-path.conf"

// readUnit returns the unit, and the values that it gives each setting, together with drop-ins in dist.
func readUnit(t *testing.T, dropIns ...string) (text []byte, settings map[string][]string) {
	t.Helper()
	for _, name := range append([]string{"mailturn.service"}, dropIns...) {
		more, err := os.ReadFile(filepath.Join("../../../../dist", name))
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, more...)
	}
	settings = make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), "="); found && !strings.HasPrefix(name, "#") {
			settings[name] = append(settings[name], value)
		}
	}
	return text, settings
}

// TestSystemdUnit has systemd read the unit, with our binary instead of the installed one, and rate its exposure from 0, the best,
// to 10.
func TestSystemdUnit(t *testing.T) {
	analyze := peer(t, "systemd-analyze", "systemd")
	text, _ := readUnit(t)
	const installed = "/usr/local/bin/mailturn"
	if !bytes.Contains(text, []byte("ExecStart="+installed+" run ")) {
		t.Fatalf("the unit does not start %s", installed)
	}
	unit := filepath.Join(t.TempDir(), "mailturn.service")
	if err := os.WriteFile(unit, bytes.ReplaceAll(text, []byte(installed), []byte(binary)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "mailturn.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err = exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold=17", unit).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}

	text, err = os.ReadFile(filepath.Join("../../../../dist", kernelPathDropIn))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(unit+".d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(unit+".d", "kernel-path.conf"), bytes.ReplaceAll(text, []byte(installed), []byte(binary)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err = exec.Command(analyze, "verify", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "mailturn.service") {
		t.Errorf("systemd-analyze verify, with the drop-in: %v\n%s", err, out)
	}
}

// systemCalls returns what is in one of systemd's groups of system calls, or name itself if it is not one.
func systemCalls(t *testing.T, name string) map[string]bool {
	t.Helper()
	if !strings.HasPrefix(name, "@") {
		return map[string]bool{name: true}
	}
	out, err := exec.Command("systemd-analyze", "syscall-filter", "--no-pager", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	calls := make(map[string]bool)
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		if member := strings.TrimSpace(lines.Text()); member != name && member != "" && !strings.HasPrefix(member, "#") {
			maps.Copy(calls, systemCalls(t, member))
		}
	}
	return calls
}

// TestSandboxOfTheUnit runs mailturn in the unit's sandbox as far as possible without systemd: its capabilities and system calls, a
// user of its own, and a file system with two writable directories.
func TestSandboxOfTheUnit(t *testing.T) {
	t.Parallel()
	s := sandboxed(t, "auto")
	if !strings.Contains(s.stderr.String(), "this process lacks CAP_BPF and CAP_NET_ADMIN") {
		t.Errorf("the log does not say what the kernel path lacks:\n%s", s.stderr.String())
	}
}

// TestSandboxOfTheKernelPath does so with the drop-in for the kernel path, without which mailturn must not start here.
func TestSandboxOfTheKernelPath(t *testing.T) {
	t.Parallel()
	s := sandboxed(t, "on", kernelPathDropIn)
	if !strings.Contains(s.stderr.String(), "kernel path is ready") {
		t.Errorf("the log does not say that the kernel path is ready:\n%s", s.stderr.String())
	}
}

// sandboxed runs mailturn with the settings of the unit and of drop-ins.
func sandboxed(t *testing.T, kernelPath string, dropIns ...string) *server {
	t.Helper()
	peer(t, "systemd-analyze", "systemd")
	python := peer(t, "/usr/bin/python3", "python3 python3-seccomp") // to which Debian's modules belong
	n := newNetwork(t)
	_, unit := readUnit(t, dropIns...)

	allowed := systemCalls(t, "@default")
	for _, setting := range unit["SystemCallFilter"] {
		names, takenAway := strings.CutPrefix(setting, "~")
		for name := range strings.FieldsSeq(names) {
			for call := range systemCalls(t, name) {
				if allowed[call] = true; takenAway {
					delete(allowed, call)
				}
			}
		}
	}
	capabilities := strings.Fields(strings.ToLower(strings.ReplaceAll(strings.Join(unit["AmbientCapabilities"], " "), "CAP_", "")))
	if !slices.Equal(unit["CapabilityBoundingSet"], unit["AmbientCapabilities"]) || len(capabilities) == 0 || len(allowed) < 200 {
		t.Fatalf("this test is not made for %v, %v and %d system calls", unit["AmbientCapabilities"], unit["CapabilityBoundingSet"], len(allowed))
	}

	dir, err := os.MkdirTemp("", "sandbox") // not the test's own directory, which is for root alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const nobody, nogroup, mail = 65534, 65534, 8 // of Debian
	state, run, path := filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "maddy.conf")
	for _, err := range []error{
		os.Chmod(dir, 0o755),
		os.Link(binary, filepath.Join(dir, "mailturn")),
		os.Mkdir(state, 0o700), os.Chown(state, nobody, nogroup),
		os.Mkdir(run, 0o755), os.Chown(run, nobody, nogroup),
		os.WriteFile(filepath.Join(dir, "turn.secret"), []byte(secret), 0o640), os.Chown(filepath.Join(dir, "turn.secret"), 0, nogroup),
		os.WriteFile(path, fmt.Appendf(nil, `
endpoint "turn" "turn" {
  listen   = ["udp://%[1]s:443", "tcp://%[1]s:443", "tls://%[1]s:443"]
  realm    = "mail.test"
  secret   = file("turn.secret")
  relay_ip = "%[1]s"
  drain_timeout = "0s"
  kernel_path   = "%[2]s"
  peers {
    allow = ["198.51.100.0/24"] # of documentation
  }
}
endpoint "imap" "imap" {
  listen      = "tls://%[1]s:993"
  turn_server = "mail.test"
  embedded {
    users = { "alice@example.org" = "wonderland" }
  }
}
endpoint "credsock" "chatmail" {
  path  = "run/turn.socket"
  group = "mail"
}
endpoint "dict" "dovecot" {
  path        = "run/dict.socket"
  group       = "mail"
  turn_server = "mail.test"
}
endpoint "http" "http" {
  listen = "http://%[1]s:80"
}
`, serverIPv4, kernelPath), 0o640), os.Chown(path, 0, nogroup),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const sandbox = `dir=$1 capabilities=-all,$2; shift 2
		mount --make-rprivate /
		for each in "$dir" "$dir/state" "$dir/run"; do mount --bind "$each" "$each"; done
		for each in "$dir" /; do mount -o remount,bind,ro "$each"; done
		if touch "$dir/x" 2>/dev/null; then exit 1; fi
		cd /
		export STATE_DIRECTORY="$dir/state"
		exec setpriv --reuid 65534 --regid 65534 --groups 8 --no-new-privs \
			--inh-caps "$capabilities" --ambient-caps "$capabilities" --bounding-set "$capabilities" "$@"`
	script, err := filepath.Abs("testdata/system_calls.py")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	s := startCommand(t, n.server.command("unshare", "--mount", "sh", "-ec", sandbox, "sh", dir, "+"+strings.Join(capabilities, ",+"), python, "-c", string(text),
		unit["SystemCallErrorNumber"][0], strings.Join(slices.Sorted(maps.Keys(allowed)), ","),
		filepath.Join(dir, "mailturn"), "run", "--config", path))

	n.nameServer(t, map[string][]string{"mail.test": {serverIPv4}})
	at := []string{"--dns", serverIPv4, "--ca", filepath.Join(state, "selfsigned.crt"), "imaps://alice%40example.org@mail.test"}
	wantVerdict(t, runProbe(t, n.client, "wonderland", at...), "", probe.OK, "A call would connect.")
	for _, name := range []string{"turn.socket", "dict.socket"} {
		info, err := os.Stat(filepath.Join(run, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Gid; got != mail || info.Mode().Perm() != 0o660 {
			t.Errorf("%s has the group %d and mode %v, want %d and 0660", name, got, info.Mode().Perm(), mail)
		}
	}
	conn, err := net.Dial("unix", filepath.Join(run, "turn.socket"))
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	conn.Close()
	if username, password, _ := strings.Cut(strings.TrimSpace(line), ":"); err != nil || password != mint(username) {
		t.Errorf("the socket said %q, %v", line, err)
	}
	rewrite(t, s, path, `"mail.test"
  embedded`, `"relay.test"
  embedded`, "msg=reloaded")
	return s
}
