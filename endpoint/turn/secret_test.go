package turn

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStoredSecretIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, created, err := StoredSecret(dir)
	if err != nil || !created {
		t.Fatalf("got created %v, error %v, want a new secret", created, err)
	}
	second, created, err := StoredSecret(dir)
	if err != nil || created {
		t.Fatalf("got created %v, error %v, want the kept secret", created, err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the second call returned another secret")
	}
	if got := len(first.Bytes()); got != 44 {
		t.Errorf("got %d bytes, want 44: 32 random ones in base64", got)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "turn.secret"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("got %v in the state directory, want only the secret", entries)
	}
}

func TestStoredSecretRefusesDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "turn.secret")
	for _, text := range []string{"", "north", "short"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := StoredSecret(dir); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: got error %v, want one that names %s", text, err, path)
		}
	}
}
