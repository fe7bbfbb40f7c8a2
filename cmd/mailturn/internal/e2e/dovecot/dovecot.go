// Package dovecot runs Debian's Dovecot, 2.3 or 2.4, in a directory of its own and without privileges, as the upstream of the
// proxies that are tested and measured.
package dovecot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// Password is the password of every user. Every name is a user, with an empty INBOX at first.
const Password = "secret"

// unprivileged is the user that Dovecot runs as when we are root.
const unprivileged = "nobody"

// started is what the master process logs once it listens.
const started = "starting up for imap"

// Options are what differs from one server to another. The zero value has no METADATA.
type Options struct {
	// Root is where another release's Dovecot is installed; nil for this machine's.
	Root *chroot.Root
	// AttributeDict is where METADATA values are kept, as mail_attribute_dict of Dovecot 2.3 has it: proxy:PATH:NAME or
	// file:PATH. Empty leaves METADATA off.
	AttributeDict string
	// ServerComment is mail_server_comment, the value of /shared/comment where there is METADATA. It may be empty.
	ServerComment string
	// SSL is the setting ssl: "yes", as Dovecot is installed, or "required". All that is about logins is then as it is
	// installed: passwords are taken over TLS alone, and an address from which wrong ones come is answered late. Empty is no
	// TLS, with logins for everybody at once.
	SSL string
	// Listener are settings of the listener for IMAP, and Settings those of the whole server, as in Dovecot's configuration.
	Listener, Settings string
	// SASL lets a mail server ask for logins over TCP, at Server.SASLAddr.
	SASL bool
	// AnyDomain makes user@example.org, user@example.net and user the same user.
	AnyDomain bool
	// Host is an IP address on which to serve IMAP in addition to 127.0.0.1, on the same port. Empty means none.
	Host string
	// ClientsPerProcess is how many clients share one process, for many idle ones at a time. Zero is one, as by default.
	ClientsPerProcess int
}

// Server is a running Dovecot.
type Server struct {
	// Addr is the host and port of plain IMAP, on loopback.
	Addr string
	// SASLAddr is the host and port of Dovecot's authentication protocol, on loopback. It is empty without Options.SASL.
	SASLAddr string

	dir        string
	root       *chroot.Root
	version    string // 2.3 or 2.4
	account    *user.User
	credential *syscall.Credential // nil if it is ours
	daemon     *daemon.Daemon
}

// Start runs Dovecot until Stop. ctx bounds only the start.
func Start(ctx context.Context, options Options) (_ *Server, err error) {
	account, credential, err := runAs()
	if err != nil {
		return nil, err
	}
	// Short, since paths of Unix sockets end at 107 bytes, and not below a directory that only root may enter.
	dir, err := os.MkdirTemp("", "dovecot")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	s := &Server{dir: dir, root: options.Root, account: account, credential: credential}
	if s.version, err = s.findVersion(); err != nil {
		return nil, err
	}
	if s.Addr, err = daemon.FreeAddr("127.0.0.1"); err != nil {
		return nil, err
	}
	if options.SASL {
		if s.SASLAddr, err = daemon.FreeAddr("127.0.0.1"); err != nil {
			return nil, err
		}
	}
	if err := s.configure(options); err != nil {
		return nil, err
	}
	cmd, err := s.command("dovecot", "-F", "-c", s.path("dovecot.conf"))
	if err != nil {
		return nil, err
	}
	if s.daemon, err = daemon.Start(ctx, cmd, started); err != nil {
		return nil, err
	}
	return s, nil
}

// command returns a command for a program of this Dovecot, in the root where it is installed.
func (s *Server) command(program string, args ...string) (*exec.Cmd, error) {
	if s.root != nil {
		return s.root.Command(s.account, program, args...)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential}
	return cmd, nil
}

// findVersion asks the program for its version, of which "2.4" is enough.
func (s *Server) findVersion() (string, error) {
	cmd, err := s.command("dovecot", "--version")
	if err != nil {
		return "", err
	}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("dovecot --version: %w", err)
	}
	fields := strings.SplitN(string(out), ".", 3)
	if len(fields) < 3 {
		return "", fmt.Errorf("dovecot --version says %q", out)
	}
	return fields[0] + "." + fields[1], nil
}

// runAs returns the account that Dovecot is to run as, and the credential to get there, nil if it is ours. Dovecot refuses
// to serve mail as root.
func runAs() (*user.User, *syscall.Credential, error) {
	if os.Getuid() != 0 {
		account, err := user.Current()
		return account, nil, err
	}
	account, err := user.Lookup(unprivileged)
	if err != nil {
		return nil, nil, err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, nil, err
	}
	return account, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// port returns the port of an address that daemon.FreeAddr gave.
func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

// Home returns the directory of a user: its mail is in Maildir below it, once the user has logged in.
func (s *Server) Home(username string) string { return filepath.Join(s.dir, "mail", username) }

// MailDir returns the directory that holds the homes of all users. They belong to Owner.
func (s *Server) MailDir() string { return s.path("mail") }

// Owner returns the user and group IDs that Dovecot runs as.
func (s *Server) Owner() (uid, gid string) { return s.account.Uid, s.account.Gid }

// Dir returns the server's directory, in which the user that it runs as may make files. Stop removes it.
func (s *Server) Dir() string { return s.dir }

// PID is the process ID of the master process, and of the process group of all.
func (s *Server) PID() int { return s.daemon.PID() }

// Log returns what the server has logged so far.
func (s *Server) Log() string { return s.daemon.Log() }

// Stop ends the server and removes its directory.
func (s *Server) Stop() error { return errors.Join(s.daemon.Stop(), os.RemoveAll(s.dir)) }
