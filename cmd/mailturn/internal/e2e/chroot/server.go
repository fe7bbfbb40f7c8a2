package chroot

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// A Program is how to run a server in a root. In its texts, DIR stands for a directory of its own, which everybody may enter, and
// ADDR and PORT for the address that it is to listen on, HOST:PORT and its port.
type Program struct {
	Name  string            // in the directory's name
	Files map[string]string // texts of files in the directory, by name
	// Prepare, if not nil, makes what else there has to be in the directory.
	Prepare func(dir string) error
	// Script becomes the server. The shell of the root runs it in the directory, as root, in a mount namespace of its own, and ends
	// at the first command that fails.
	Script string
	Ready  string // what it writes once it is configured
	// Namespace is the network that it runs in, as ip-netns(8) names it, where it listens as it likes. Empty is this process's.
	Namespace string
}

// A Server is a server that runs in a root.
type Server struct {
	// Addr is the host and port that it listens on, on loopback, unless it runs in another network.
	Addr string

	dir    string
	daemon *daemon.Daemon
}

// Serve runs a program until Stop, and returns once it listens; in another network, once it says that it is ready. ctx bounds only the start.
func (r *Root) Serve(ctx context.Context, p Program) (_ *Server, err error) {
	dir, err := os.MkdirTemp("", p.Name) // short, since paths of Unix sockets end at 107 bytes
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if s.Addr, err = daemon.FreeAddr("127.0.0.1"); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	replacer := strings.NewReplacer("DIR", dir, "ADDR", s.Addr, "PORT", port)
	for name, text := range p.Files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(replacer.Replace(text)), 0o644); err != nil {
			return nil, err
		}
	}
	if p.Prepare != nil {
		if err := p.Prepare(dir); err != nil {
			return nil, err
		}
	}
	cmd, err := r.Command(nil, "sh", "-c", replacer.Replace("set -e\ncd DIR\n"+p.Script))
	if err != nil {
		return nil, err
	}
	if p.Namespace != "" {
		cmd = exec.Command("ip", append([]string{"netns", "exec", p.Namespace}, cmd.Args...)...)
	}
	if s.daemon, err = daemon.Start(ctx, cmd, p.Ready); err != nil {
		return nil, err
	}
	if p.Namespace != "" {
		return s, nil
	}
	if err := s.daemon.Listening(ctx, s.Addr); err != nil {
		return nil, err
	}
	return s, nil
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
