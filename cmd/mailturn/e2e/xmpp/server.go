// Package xmpp runs XMPP servers of Debian with the configuration that their packages install, and asks them which relays there
// are (XEP-0215).
package xmpp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/e2e/daemon"
)

// Every server has this domain, and one user with this name and password.
const (
	Domain   = "localhost"
	User     = "alice"
	Password = "wonderland"
)

// Server is a running XMPP server.
type Server struct {
	// Addr is the host and port for clients, on loopback and without TLS.
	Addr string

	dir    string
	daemon *daemon.Daemon
}

// program is how to run a server.
type program struct {
	config string // its path
	// edit returns the installed configuration with what a test needs to be different.
	edit func(text string) (string, error)
	// run is the script that root runs in a mount namespace of its own, in an empty directory that all may enter.
	run   string
	ready string // what it writes when it listens
}

// start runs the program in root. In its texts, DIR is the directory and PORT the port for clients.
func start(ctx context.Context, root *chroot.Root, p program) (_ *Server, err error) {
	cat, err := root.Command(nil, "cat", p.config)
	if err != nil {
		return nil, err
	}
	installed, err := cat.Output()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p.config, err)
	}
	config, err := p.edit(string(installed))
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "xmpp")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	port, err := daemon.FreePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	s.Addr = "127.0.0.1:" + strconv.Itoa(port)
	replacer := strings.NewReplacer("DIR", dir, "PORT", strconv.Itoa(port))
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "config"), []byte(replacer.Replace(config)), 0o644)); err != nil {
		return nil, err
	}
	const mount = "set -e\ncd DIR\nmount --bind config %s\nmkdir data\n"
	cmd, err := root.Command(nil, "sh", "-c", replacer.Replace(fmt.Sprintf(mount, p.config)+p.run))
	if err != nil {
		return nil, err
	}
	if s.daemon, err = daemon.Start(ctx, cmd, p.ready); err != nil {
		return nil, err
	}
	return s, s.daemon.Listening(ctx, s.Addr)
}

// replaceOnce returns text with the one occurrence of old replaced.
func replaceOnce(text, old, replacement string) (string, error) {
	if n := strings.Count(text, old); n != 1 {
		return "", fmt.Errorf("the installed configuration has %d times %q, want it once", n, old)
	}
	return strings.Replace(text, old, replacement, 1), nil
}

// Log returns what the server has written so far.
func (s *Server) Log() string { return s.daemon.Log() }

// Stop ends the server and removes its directory.
func (s *Server) Stop() (err error) {
	if s.daemon != nil {
		err = s.daemon.Stop()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
