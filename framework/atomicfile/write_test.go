package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	holds := func(want string, mode fs.FileMode) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil || string(data) != want {
			t.Errorf("the file holds %q, %v; want %q", data, err, want)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != mode {
			t.Errorf("the file has mode %v, %v; want %v", info.Mode(), err, mode)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("files left: %v", entries)
		}
	}

	if err := Create(path, []byte("one"), Private); err != nil {
		t.Fatal(err)
	}
	holds("one", 0o600)
	if err := Create(path, []byte("two"), Private); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file that exists: got %v", err)
	}
	holds("one", 0o600)

	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	owned := Owned(info, 0o640)
	if want := (Attributes{0o600, os.Geteuid(), os.Getegid()}); owned != want {
		t.Errorf("got %+v, want %+v", owned, want)
	}
	owned.Mode = 0o640
	if err := Replace(path, []byte("two"), owned); err != nil {
		t.Fatal(err)
	}
	holds("two", 0o640)

	if err := Replace(filepath.Join(dir, "absent", "file"), nil, Private); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that does not exist: got %v", err)
	}
	if os.Geteuid() != 0 {
		if err := Replace(path, []byte("three"), Attributes{0o640, 0, 0}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("for another owner: got %v", err)
		}
		holds("two", 0o640)
	}
}
