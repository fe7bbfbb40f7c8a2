// Package postfix runs Debian's Postfix with a queue and a configuration of its own: it is the SMTP server of the mail
// clients that are tested. Clients submit to it, and it delivers into the mailboxes of a Dovecot.
package postfix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// started is what the master process logs once it listens.
const started = "daemon started"

// Options say whose mail it is. All are needed.
type Options struct {
	// Host is the address that clients submit to, without TLS.
	Host string
	// Domain is the one domain that is delivered, and Users are the mailboxes in it. Other mail is refused.
	Domain string
	Users  []string
	// SASLAddr is the host and port of Dovecot's authentication protocol. Clients must log in to submit mail.
	SASLAddr string
	// MailDir holds the home of each user, named by the local part of the address, with a Maildir in it. UID and GID own them.
	MailDir, UID, GID string
}

// Server is a running Postfix.
type Server struct {
	// Addr is the host and port of submission.
	Addr string

	dir    string
	daemon *daemon.Daemon
}

// Start runs Postfix until Stop, which only root can do. ctx bounds only the start.
func Start(ctx context.Context, options Options) (_ *Server, err error) {
	program, err := exec.LookPath("postfix")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "postfix")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	s := &Server{dir: dir}
	if s.Addr, err = daemon.FreeAddr(options.Host); err != nil {
		return nil, err
	}
	if err := s.configure(options); err != nil {
		return nil, err
	}
	// "postfix start-fg" would be the parent of master, and does not forward signals.
	if out, err := exec.CommandContext(ctx, program, "-c", s.path("etc"), "check").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("postfix check: %w\n%s", err, out)
	}
	programs, err := exec.CommandContext(ctx, "postconf", "-c", s.path("etc"), "-h", "daemon_directory").Output()
	if err != nil {
		return nil, fmt.Errorf("postconf: %w", err)
	}
	cmd := exec.Command(filepath.Join(strings.TrimSpace(string(programs)), "master"), "-c", s.path("etc"), "-s")
	if s.daemon, err = daemon.Start(ctx, cmd, started); err != nil {
		return nil, err
	}
	return s, nil
}

// configure writes the configuration, and makes the directories that Postfix does not make.
func (s *Server) configure(options Options) error {
	// Postfix's daemons run as another user than root and must be able to read the queue.
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"etc", "queue", "data"} {
		if err := os.Mkdir(s.path(name), 0o755); err != nil {
			return err
		}
	}
	if out, err := exec.Command("chown", "postfix:", s.path("data")).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var mailboxes strings.Builder
	for _, name := range options.Users {
		fmt.Fprintf(&mailboxes, "%s@%s %s/Maildir/\n", name, options.Domain, name)
	}
	replacer := strings.NewReplacer("DIR", s.dir, "ADDR", s.Addr, "HOST", options.Host, "DOMAIN", options.Domain, "SASL", options.SASLAddr,
		"MAIL", options.MailDir, "UID", options.UID, "GID", options.GID)
	for name, text := range map[string]string{"main.cf": main, "master.cf": master, "mailboxes": mailboxes.String()} {
		if err := os.WriteFile(filepath.Join(s.path("etc"), name), []byte(replacer.Replace(text)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// main is main.cf. Without lookups in DNS, where names of tests are not.
const main = `
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
maillog_file = /dev/stdout
myhostname = DOMAIN
mydestination =
mynetworks =
inet_interfaces = HOST
inet_protocols = all
alias_maps =
local_transport = error:no local mail
default_transport = error:no mail to other domains
smtp_host_lookup = native
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:SASL
smtpd_relay_restrictions = permit_sasl_authenticated, reject
virtual_transport = virtual
virtual_mailbox_domains = DOMAIN
virtual_mailbox_base = MAIL
virtual_mailbox_maps = texthash:DIR/etc/mailboxes
virtual_minimum_uid = 1
virtual_uid_maps = static:UID
virtual_gid_maps = static:GID
`

// master is master.cf: what takes mail in, queues it and delivers it, without chroot(2).
const master = `
ADDR inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

// Log returns what the server has logged so far.
func (s *Server) Log() string { return s.daemon.Log() }

// Stop ends the server and removes its directory, with all mail that was not delivered.
func (s *Server) Stop() error { return errors.Join(s.daemon.Stop(), os.RemoveAll(s.dir)) }
