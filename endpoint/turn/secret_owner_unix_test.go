//go:build unix

package turn

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestStoredSecretOfRoot checks that a secret that root creates, with "sudo mailturn export" before the first start, belongs to the
// user of the service, who owns the directory.
func TestStoredSecretOfRoot(t *testing.T) {
	const user = 65534
	dir := t.TempDir()
	want := uint32(user)
	if os.Geteuid() != 0 {
		want = uint32(os.Geteuid()) // only root can create files of others
	} else if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	if _, _, err := StoredSecret(dir); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "turn.secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t).Uid; got != want || info.Mode() != 0o600 {
		t.Errorf("the secret has owner %d and mode %v, want %d and 0600", got, info.Mode(), want)
	}
}
