// Package dovecot runs Debian's Dovecot in a directory of its own and without privileges: it is the IMAP server behind
// the proxies that are tested and measured.
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

	"github.com/mailturn/mailturn/cmd/mailturn/e2e/daemon"
)

// Password is that of every user. Whoever logs in exists, with an empty INBOX at first.
const Password = "secret"

// unprivileged is the user that Dovecot runs as when we are root.
const unprivileged = "nobody"

// started is what the master process logs once it listens.
const started = "starting up for imap"

// Options are what differs from one server to another. The zero value has no METADATA.
type Options struct {
	// AttributeDict is mail_attribute_dict, where METADATA values are kept. Empty leaves METADATA off.
	AttributeDict string
	// ServerComment is mail_server_comment, the value of /shared/comment where there is METADATA.
	ServerComment string
	// SASL lets a mail server ask for logins over TCP, at Server.SASLAddr.
	SASL bool
	// AnyDomain makes user@example.org, user@example.net and user the same user.
	AnyDomain bool
	// Host is another IP address to serve IMAP on, on the same port, than 127.0.0.1. Empty is none.
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

	dir     string
	account *user.User
	daemon  *daemon.Daemon
}

// Start runs Dovecot until Stop. ctx bounds only the start.
func Start(ctx context.Context, options Options) (_ *Server, err error) {
	program, err := exec.LookPath("dovecot")
	if err != nil {
		return nil, err
	}
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
	s := &Server{dir: dir, account: account}
	if s.Addr, err = daemon.FreeAddr("127.0.0.1"); err != nil {
		return nil, err
	}
	if options.SASL {
		if s.SASLAddr, err = daemon.FreeAddr("127.0.0.1"); err != nil {
			return nil, err
		}
	}
	if err := s.configure(credential, options); err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "-F", "-c", s.path("dovecot.conf"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	if s.daemon, err = daemon.Start(ctx, cmd, started); err != nil {
		return nil, err
	}
	return s, nil
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

// configure writes the configuration, and gives the directory to the user that Dovecot runs as.
func (s *Server) configure(credential *syscall.Credential, options Options) error {
	group, err := user.LookupGroupId(s.account.Gid)
	if err != nil {
		return err
	}
	metadata := ""
	if options.AttributeDict != "" {
		metadata = fmt.Sprintf("mail_attribute_dict = %s\nmail_server_comment = %s\nprotocol imap {\n  imap_metadata = yes\n}\n",
			options.AttributeDict, options.ServerComment)
	}
	sasl := ""
	if s.SASLAddr != "" {
		sasl = fmt.Sprintf("service auth {\n  inet_listener {\n    address = 127.0.0.1\n    port = %s\n  }\n}\n", port(s.SASLAddr))
	}
	usernames := "%Lu"
	if options.AnyDomain {
		usernames = "%Ln"
	}
	served := "1" // and then a process ends
	if options.ClientsPerProcess > 1 {
		served = "0"
	}
	text := strings.NewReplacer(
		"DIR", s.dir, "USERNAMES", usernames, "USER", s.account.Username, "GROUP", group.Name, "PORT", port(s.Addr), "PASSWORD", Password,
		"CLIENTS", strconv.Itoa(max(options.ClientsPerProcess, 1)), "SERVED", served, "LISTEN", strings.TrimSpace("127.0.0.1 "+options.Host),
	).Replace(configuration) + metadata + sasl
	if err := os.WriteFile(s.path("dovecot.conf"), []byte(text), 0o600); err != nil {
		return err
	}
	for _, name := range []string{"run", "mail"} {
		if err := os.Mkdir(s.path(name), 0o755); err != nil {
			return err
		}
	}
	if credential == nil {
		return nil
	}
	for _, name := range []string{"", "dovecot.conf", "run", "mail"} {
		if err := os.Chown(s.path(name), int(credential.Uid), int(credential.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// configuration is that of a server of one user: what a distribution's needs root for, other users and chroot(2), is taken
// out. A login that fails is answered at once, and no number of them bans an address.
const configuration = `
base_dir = DIR/run
state_dir = DIR/run
log_path = /dev/stderr
protocols = imap
listen = LISTEN
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
auth_username_format = USERNAMES
default_internal_user = USER
default_internal_group = GROUP
default_login_user = USER
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:~/Maildir
mail_fsync = never
mail_max_userip_connections = 0
imap_capability = +XCHATMAIL XDELTAPUSH
default_client_limit = 16384
default_vsz_limit = 1G
passdb {
  driver = static
  args = password=PASSWORD
}
userdb {
  driver = static
  args = uid=USER gid=GROUP home=DIR/mail/%u
}
namespace inbox {
  inbox = yes
}
service anvil {
  chroot =
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service imap-login {
  chroot =
  service_count = 0
  inet_listener imap {
    port = PORT
  }
  inet_listener imaps {
    port = 0
  }
}
service imap {
  client_limit = CLIENTS
  service_count = SERVED
}
`

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
