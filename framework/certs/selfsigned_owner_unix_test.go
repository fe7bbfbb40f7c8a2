//go:build unix

package certs

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// TestSelfSignedOfRoot checks that a certificate that root creates belongs to the user of the service, who owns the directory, with
// its key. Otherwise that user would replace it silently.
func TestSelfSignedOfRoot(t *testing.T) {
	const user = 65534
	dir := t.TempDir()
	want := uint32(user)
	if os.Geteuid() != 0 {
		want = uint32(os.Geteuid()) // only root can create files of others
	} else if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	pair, _, err := SelfSigned(dir, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{pair.Key: 0o600, pair.Cert: 0o644} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != want || info.Mode() != mode {
			t.Errorf("%s has owner %d and mode %v, want %d and %v", path, got, info.Mode(), want, mode)
		}
	}
}
