package e2e

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// A machine is a Debian on which the documentation is followed: a container with systemd, a copy of a root directory of .ci/debian,
// and no network but loopback. /src contains the files to install.
type machine struct {
	leader string // process ID of the container's init
}

// inControlGroup moves itself to a control group of its own ($0), in each hierarchy that systemd uses, and becomes the command. Two
// containers would share the groups that systemd-nspawn makes otherwise.
const inControlGroup = `
for hierarchy in ` + controlGroups + `; do
  [ -w "$hierarchy/cgroup.procs" ] || continue
  mkdir "$hierarchy/$0"
  echo $$ >"$hierarchy/$0/cgroup.procs"
done
exec "$@"`

// controlGroups is where the hierarchies are, of which a system has one, or the last two.
const controlGroups = "/sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified"

var machines atomic.Int32

// newMachine boots one with what the repository has to be installed from.
func newMachine(t *testing.T) machine {
	t.Helper()
	repository, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	return bootMachine(t, "bookworm-systemd", binary, filepath.Join(repository, "maddy.conf.example"), filepath.Join(repository, "dist"))
}

// bootMachine boots a copy of a root with these files and directories in /src. It is turned off when the test ends.
func bootMachine(t *testing.T, release string, files ...string) machine {
	t.Helper()
	nspawn := peer(t, "systemd-nspawn", "systemd-container")
	root := openRoot(t, release)
	name := fmt.Sprintf("mailturn-e2e-%d-%d", os.Getpid(), machines.Add(1))
	args := []string{"-ec", inControlGroup, name, nspawn, "--quiet", "--directory=" + root.Dir(), "--volatile=overlay", "--machine=" + name,
		"--register=no", "--keep-unit", "--private-network", "--link-journal=no", "--settings=no", "--console=pipe", "--notify-ready=yes"}
	for _, file := range files {
		args = append(args, "--bind-ro="+file+":/src/"+filepath.Base(file))
	}
	cmd := exec.Command("sh", append(args, "--boot", "--", "--unit=basic.target")...)
	manager := listenAsManager(t, cmd)
	var console lines
	cmd.Stdout, cmd.Stderr = &console, &console
	exited, err := daemon.Run(cmd)
	if err != nil {
		t.Fatal(err)
	}
	var m machine
	t.Cleanup(func() {
		if leader, err := strconv.Atoi(m.leader); err == nil {
			syscall.Kill(leader, syscall.SIGKILL) // which ends every process of the container, and then systemd-nspawn
		} else {
			cmd.Process.Kill()
		}
		<-exited
		removeControlGroups(name)
		os.Remove(filepath.Join("/run/systemd/nspawn/propagate", name))
		if t.Failed() {
			t.Logf("the console of %s:\n%s", name, &console)
		}
	})
	for ready := false; !ready; {
		said := manager.next(t)
		if leader := said["X_NSPAWN_LEADER_PID"]; leader != "" {
			m.leader = leader
		}
		ready = said["READY"] == "1"
	}
	manager.conn.SetReadDeadline(time.Time{})
	go io.Copy(io.Discard, manager.conn) // until the test ends; systemd, which says more from version 257 on, would wait for a reader
	m.run(t, "hostname localhost")       // a name that sudo can look up
	return m
}

// removeControlGroups removes those of a name, of which no process is left.
func removeControlGroups(name string) {
	for hierarchy := range strings.FieldsSeq(controlGroups) {
		var groups []string
		filepath.WalkDir(filepath.Join(hierarchy, name), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		for _, group := range slices.Backward(groups) {
			os.Remove(group)
		}
	}
}

// write makes a file.
func (m machine) write(t *testing.T, name, text string) {
	t.Helper()
	cmd := m.command(`install -D -m 0644 /dev/stdin "` + name + `"`)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// command runs a shell script as root, in /src. The script ends with the first line that fails.
func (m machine) command(script string) *exec.Cmd {
	cmd := exec.Command("nsenter", "--all", "--target="+m.leader, "bash", "-euo", "pipefail", "-c", "cd /src\n"+script)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
	return cmd
}

// run checks that the script succeeds, and returns its output.
func (m machine) run(t *testing.T, script string) string {
	t.Helper()
	out, err := m.command(script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\nfrom\n%s\nThe journal:\n%s", err, out, script, m.journal())
	}
	return string(out)
}

// fails checks that the script fails, and that its output or the journal says why.
func (m machine) fails(t *testing.T, script, reason string) {
	t.Helper()
	before := len(m.journal())
	out, err := m.command(script).CombinedOutput()
	journal := m.journal()
	if err == nil || !strings.Contains(string(out)+journal[min(before, len(journal)):], reason) {
		t.Errorf("got %v, want a failure for %q\n%s\nfrom\n%s\nThe journal:\n%s", err, reason, out, script, journal)
	}
}

// journal returns what mailturn and systemd have logged of it.
func (m machine) journal() string {
	out, _ := m.command("journalctl --no-pager --unit=mailturn").CombinedOutput()
	return string(out)
}
