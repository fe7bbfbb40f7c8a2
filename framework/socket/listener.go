package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// probeTimeout bounds the attempt to connect to an existing socket. Connecting to a live process succeeds immediately, unless its
// backlog is full.
const probeTimeout = time.Second

// A Listener listens on a Unix socket.
type Listener struct {
	*net.UnixListener
	config Config
	file   fs.FileInfo // the file that bind has created
}

// Listen creates the socket and listens on it. It replaces a stale socket, on which nobody listens. Errors name the path, its place
// in the configuration, and what to do.
func Listen(ctx context.Context, c Config) (*Listener, error) {
	taken, err := c.Sockets.TakeUnix(c.Path)
	if err != nil {
		return nil, failure("listen on", c, err)
	}
	if taken != nil {
		return adopt(taken, c)
	}
	if err := removeStale(ctx, c.Path); err != nil {
		return nil, failure("listen on", c, err)
	}
	l, err := bind(ctx, c)
	if err != nil {
		return nil, failure("listen on", c, err)
	}
	if err := permit(c); err != nil {
		l.Close()
		return nil, failure("listen on", c, err)
	}
	c.Sockets.OfferUnix(c.Path, l.UnixListener)
	return l, nil
}

// adopt returns a listener for a socket that the process before has made.
func adopt(taken *net.UnixListener, c Config) (*Listener, error) {
	l := &Listener{UnixListener: taken, config: c}
	l.SetUnlinkOnClose(false)
	var err error
	if l.file, err = os.Lstat(c.Path); err == nil {
		err = permit(c)
	}
	if err != nil {
		_ = taken.Close() // not l.Close: the process before may go on
		return nil, failure("take over", c, err)
	}
	c.Sockets.OfferUnix(c.Path, taken)
	return l, nil
}

// bind creates the socket, to which nobody else may connect yet.
func bind(ctx context.Context, c Config) (*Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error { return conn.Control(makePrivate) }}
	bound, err := config.Listen(ctx, "unix", c.Path)
	if err != nil {
		return nil, err
	}
	l := &Listener{UnixListener: bound.(*net.UnixListener), config: c}
	l.SetUnlinkOnClose(false) // Close removes it, if it is still ours
	if l.file, err = os.Lstat(c.Path); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// removeStale removes a socket on which nobody listens.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("a file that is not a socket exists there: remove it, or choose another path")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errors.New("another process is listening there: stop it, or choose another path")
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("a socket exists there and may be in use: %w", bare(err))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// permit sets owner, group and mode, in this order: a change of the owner may clear bits of the mode. It does not follow symbolic
// links, which others who can write to the directory might place there.
func permit(c Config) error {
	dir, err := os.OpenRoot(filepath.Dir(c.Path))
	if err != nil {
		return err
	}
	defer dir.Close()
	name := filepath.Base(c.Path)
	if c.UID >= 0 || c.GID >= 0 {
		if err := dir.Lchown(name, c.UID, c.GID); err != nil {
			return fmt.Errorf("change its owner: %w: only root can give a file to another user, or to a group that the owner is not in", bare(err))
		}
	}
	return dir.Chmod(name, c.Mode)
}

// Prepare returns a listener for c: l itself with the permissions of c or, if c names another path or somebody has removed the
// socket, a new one in addition to l. undo reverts either. An error is as Listen's, and leaves l as it was.
func (l *Listener) Prepare(ctx context.Context, c Config) (next *Listener, undo func(), err error) {
	if c.Path != l.config.Path || !l.inPlace() {
		if next, err = Listen(ctx, c); err != nil {
			return nil, nil, err
		}
		return next, func() { next.Close() }, nil
	}
	previous := l.config
	undo = func() {
		permit(previous)
		l.config = previous
	}
	if err := permit(c); err != nil {
		undo()
		return nil, nil, failure("change the permissions of", c, err)
	}
	l.config = c
	return l, undo, nil
}

// inPlace reports whether the file at the path is the socket that l has created.
func (l *Listener) inPlace() bool {
	there, err := os.Lstat(l.config.Path)
	return err == nil && l.file != nil && os.SameFile(there, l.file)
}

// Close stops listening, and removes the socket unless another file has replaced it, or another process listens on it now.
func (l *Listener) Close() error {
	if !l.config.Sockets.Shared() && l.inPlace() {
		os.Remove(l.config.Path)
	}
	return l.UnixListener.Close()
}

// failure returns err with the path, its place in the configuration, and advice.
func failure(doing string, c Config, err error) error {
	place, advice := "", ""
	if c.Range.Filename != "" {
		place = fmt.Sprintf(" (%s:%d)", c.Range.Filename, c.Range.Start.Line)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		advice = ": create the directory, writable by the user that runs mailturn"
	case errors.Is(err, syscall.EACCES):
		advice = ": the directory must be writable by the user that runs mailturn"
	}
	return fmt.Errorf("%s %s%s: %w%s", doing, c.Path, place, bare(err), advice)
}

// bare is err without the path, which the caller names.
func bare(err error) error {
	if opErr, ok := errors.AsType[*net.OpError](err); ok {
		return opErr.Err
	}
	if pathErr, ok := err.(*fs.PathError); ok {
		return pathErr.Err
	}
	return err
}
