package bounded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("four"), 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		data, mode, err := ReadFile(name, 4)
		if err != nil || string(data) != "four" || mode != 0o640 {
			t.Errorf("ReadFile(%s) = %q, %v, %v", name, data, mode, err)
		}
	}
	if _, _, err := ReadFile(path, 3); err == nil || !strings.Contains(err.Error(), path+": it is larger than 3 bytes") {
		t.Errorf("with a limit of 3 bytes: %v", err)
	}
	if _, _, err := ReadFile(filepath.Join(t.TempDir(), "absent"), 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, _, err := ReadFile(t.TempDir(), 3); !errors.Is(err, ErrNotRegular) {
		t.Errorf("directory: %v", err)
	}
}
