//go:build unix

package bounded

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// TestReadFileWithoutEnd checks that ReadFile returns an error immediately, where os.ReadFile waits for a writer or takes all
// memory.
func TestReadFileWithoutEnd(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, "/dev/zero"} {
		if _, _, err := ReadFile(path, MaxFile); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s: error %v, want ErrNotRegular", path, err)
		}
	}
}
