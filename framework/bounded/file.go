// Package bounded reads the files that a configuration names, and always returns: a named pipe does not block it, and an endless
// device does not fill the memory.
package bounded

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// MaxFile is the limit in bytes for every file except a list of users: a configuration, a certificate, a secret.
const MaxFile = 1 << 20

// MaxUsersFile is the limit in bytes for a list of users.
const MaxUsersFile = 32 << 20

// ErrNotRegular is the error for a directory, a pipe, a socket or a device.
var ErrNotRegular = errors.New("not a regular file")

// ReadFile returns the contents and the mode of the regular file that path leads to. The error is an *fs.PathError, whose cause is
// ErrNotRegular for anything but a regular file, and that of TooLarge for more than limit bytes.
func ReadFile(path string, limit int64) (data []byte, mode fs.FileMode, err error) {
	// Without O_NONBLOCK, opening a named pipe waits for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case !info.Mode().IsRegular():
		return nil, 0, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w but %s", ErrNotRegular, kind(info.Mode()))}
	}
	data, err = Read(f, limit)
	if err != nil {
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathErr.Err
		}
		return nil, 0, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return data, info.Mode(), nil
}

// kind returns what kind of file has the mode.
func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeDevice != 0:
		return "a device"
	default:
		return "something else"
	}
}

// Read returns all of r, or an error if r has more than limit bytes.
func Read(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, TooLarge(limit)
	}
	return data, err
}

// TooLarge returns the error for more than limit bytes.
func TooLarge(limit int64) error { return fmt.Errorf("it is larger than %d bytes", limit) }
