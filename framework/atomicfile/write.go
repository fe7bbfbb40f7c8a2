// Package atomicfile writes files atomically: readers see the whole file or none of it, even if the machine crashes meanwhile.
package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Attributes are set before the file gets its name.
type Attributes struct {
	Mode     fs.FileMode // permission bits
	UID, GID int         // -1 for those of the process
}

// Private are the attributes of a file that nobody else may read.
var Private = Attributes{Mode: 0o600, UID: -1, GID: -1}

// Owned are the attributes of the existing file or folder that info is about, with no more permissions than mode has.
func Owned(info fs.FileInfo, mode fs.FileMode) Attributes {
	a := Attributes{Mode: info.Mode().Perm() & mode, UID: -1, GID: -1}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		a.UID, a.GID = int(stat.Uid), int(stat.Gid)
	}
	return a
}

// In are the attributes of a new file in dir. One that root writes, for example with a command before the first start of a service,
// belongs to the owner of dir, who has to read it.
func In(dir string, mode fs.FileMode) (Attributes, error) {
	a := Attributes{Mode: mode, UID: -1, GID: -1}
	if os.Geteuid() != 0 {
		return a, nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return Attributes{}, err
	}
	owner := Owned(info, 0)
	a.UID, a.GID = owner.UID, owner.GID
	return a, nil
}

// Create writes a new file at path. If one exists, it is not changed, and the error is fs.ErrExist.
func Create(path string, data []byte, a Attributes) error {
	return write(path, data, a, func(temporary string) error { return os.Link(temporary, path) })
}

// Replace writes the file at path, and replaces one that exists.
func Replace(path string, data []byte, a Attributes) error {
	return write(path, data, a, func(temporary string) error { return os.Rename(temporary, path) })
}

// write writes a temporary file in the folder of path, which name then renames or links to path.
func write(path string, data []byte, a Attributes, name func(temporary string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // without effect after a rename
	_, err = f.Write(data)
	if err == nil && (a.UID >= 0 || a.GID >= 0) {
		err = f.Chown(a.UID, a.GID)
	}
	if err == nil {
		err = f.Chmod(a.Mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = name(f.Name())
	}
	return err
}
