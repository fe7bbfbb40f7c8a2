package provision

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestFullDisk has the disk fill up before each command, on a file system of its own, with a local.conf of the operator that has to
// be restored without room for a second file.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system takes root")
	}
	const parts = "-- /etc/dovecot/local.conf --\n# ours\n"
	failed := 0
	for n, ended := 1, false; !ended; n++ {
		m := newSimulatedOn(t, mountSmall(t), parts)
		before := m.everything(t)
		plan := m.plan(t)
		filler := m.path("/filler")
		m.before = func(i int) error {
			if i == n {
				fill(t, filler)
			}
			return nil
		}
		err := plan.Apply(t.Context(), m.Machine, silent)
		ended = len(m.done) < n
		if err := os.Remove(filler); err != nil && !ended {
			t.Fatal(err)
		}
		if err == nil {
			continue // nothing was written after that
		}
		failed++
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "Everything is as it was") {
			t.Errorf("full at %d, %q: %v", n, m.done, err)
		}
		if diff := cmp.Diff(before, m.everything(t)); diff != "" {
			t.Errorf("full at %d, %q: -before +after\n%s", n, m.done, diff)
		}
	}
	if failed < 5 {
		t.Errorf("setup failed %d times", failed)
	}
}

// mountSmall returns the directory of a file system for a few files.
func mountSmall(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	root := filepath.Join(dir, "root")
	// /proc takes no room.
	if err := errors.Join(os.Mkdir(root, 0o755), os.Symlink(t.TempDir(), filepath.Join(root, "proc"))); err != nil {
		t.Fatal(err)
	}
	return root
}

// fill writes until there is no room.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
