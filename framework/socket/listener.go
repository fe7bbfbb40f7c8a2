package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// probeTimeout bounds the attempt to connect to a socket that is there already. A process that lives accepts at once, or
// has a full backlog, on which a connection waits.
const probeTimeout = time.Second

const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

// A Listener is a socket that is listened on.
type Listener struct {
	*net.UnixListener
	path   string
	config Config
	file   fs.FileInfo // what bind has made
}

// Listen makes the socket and listens on it. A socket at that place on which nobody listens is replaced. Errors name the
// path, its place in the configuration, and what to do.
func Listen(ctx context.Context, c Config) (*Listener, error) {
	fail := func(err error) (*Listener, error) {
		return nil, fmt.Errorf("listen on %s%s: %w", c.Path, place(c.Range), err)
	}
	if err := removeStale(ctx, c.Path); err != nil {
		return fail(err)
	}
	bound, err := new(net.ListenConfig).Listen(ctx, "unix", c.Path)
	if err != nil {
		return fail(reason(err))
	}
	l := &Listener{UnixListener: bound.(*net.UnixListener), path: c.Path, config: c}
	l.SetUnlinkOnClose(false) // Close does it, with a look at what is there
	if l.file, err = os.Lstat(c.Path); err == nil {
		err = permit(c)
	}
	if err != nil {
		l.Close()
		return fail(err)
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
		return errors.New("something that is no socket is there: remove it, or choose another path")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errors.New("another process serves there: stop it, or choose another path")
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("a socket is there that may be in use: %w", reason(err))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// permit sets owner, group and mode, in this order: a change of the owner may clear bits of the mode.
func permit(c Config) error {
	if c.UID >= 0 || c.GID >= 0 {
		if err := os.Lchown(c.Path, c.UID, c.GID); err != nil {
			return fmt.Errorf("%w: only root gives a file to another user, or to a group that it is not in", err)
		}
	}
	return os.Chmod(c.Path, c.Mode)
}

// Permit sets owner, group and mode of a socket that is in use, for which c names the same path.
func (l *Listener) Permit(c Config) error {
	if err := permit(c); err != nil {
		return fmt.Errorf("change the permissions of %s%s: %w", c.Path, place(c.Range), err)
	}
	l.config = c
	return nil
}

// Config is what the socket was made from.
func (l *Listener) Config() Config { return l.config }

// Close stops listening, and removes the socket unless another one has taken its place.
func (l *Listener) Close() error {
	if there, err := os.Lstat(l.path); err == nil && l.file != nil && os.SameFile(there, l.file) {
		os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

// Serve calls handle for each connection, in one goroutine, until the listener is closed. Other errors pass: too many open
// files (EMFILE), for one, when connections end.
func (l *Listener) Serve(logger *slog.Logger, handle func(net.Conn)) {
	var delay time.Duration
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			delay = 0
			handle(conn)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			if delay = min(max(2*delay, minAcceptDelay), maxAcceptDelay); delay == minAcceptDelay {
				logger.Warn("accepting a connection", "listen", l.path, "err", err)
			}
			time.Sleep(delay)
		}
	}
}

// place is where the configuration has the path, if it has.
func place(rng hcl.Range) string {
	if rng.Filename == "" {
		return ""
	}
	return " (" + rng.Filename + ":" + strconv.Itoa(rng.Start.Line) + ")"
}

// reason is err without the path, which the caller names.
func reason(err error) error {
	if opErr, ok := errors.AsType[*net.OpError](err); ok {
		return opErr.Err
	}
	return err
}
