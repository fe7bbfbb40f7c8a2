package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A machine is a Debian on which somebody follows the documentation: the programs are this machine's, and /etc, /usr/local/bin,
// /var/lib, /run and the network its own. sudo runs the command, and systemctl does nothing.
type machine struct{ dir string }

// inMachine runs the command in the directory that mailturn was built in.
const inMachine = `
dir=$1; shift
mount --make-rprivate /
mount --bind "$dir/etc" /etc
mount --bind "$dir/bin" /usr/local/bin
mount --bind "$dir/lib" /var/lib
mount -t tmpfs tmpfs /run
ip link set lo up
export PATH="$dir/commands:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
cd "$dir/source"
"$@"
exit 0 # the command is not process 1, which systemd's programs take for the boot of a machine`

// newMachine returns one with a copy of /etc.
func newMachine(t *testing.T) machine {
	t.Helper()
	peer(t, "ip", "iproute2")
	needRoot(t, "a machine of its own")
	dir, err := os.MkdirTemp("", "machine") // not the test's own directory, which is for root alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := machine{dir}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", "/etc", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"bin", "lib", "source", "commands"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"maddy.conf.example", "dist"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(dir, "source", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(binary, filepath.Join(dir, "source/mailturn")); err != nil {
		t.Fatal(err)
	}
	m.write(t, "commands/sudo", "#!/bin/sh\nexec \"$@\"\n")
	m.write(t, "commands/systemctl", "#!/bin/sh\n")
	for _, name := range []string{"sudo", "systemctl"} {
		if err := os.Chmod(filepath.Join(dir, "commands", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// write makes a file, in etc, bin, lib, source or commands.
func (m machine) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command runs a shell script there. It ends with the first line that fails, and so does what it has started.
func (m machine) command(script string) *exec.Cmd {
	return exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", inMachine, "sh", m.dir, "bash", "-euc", script)
}

// run wants the script to succeed, and returns what it writes.
func (m machine) run(t *testing.T, script string) string {
	t.Helper()
	out, err := m.command(script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\nfrom\n%s", err, out, script)
	}
	return string(out)
}

// fails wants the script to fail and to say why.
func (m machine) fails(t *testing.T, script, reason string) {
	t.Helper()
	out, err := m.command(script).CombinedOutput()
	if err == nil || !strings.Contains(string(out), reason) {
		t.Errorf("got %v, want a failure for %q\n%s\nfrom\n%s", err, reason, out, script)
	}
}
