// Package cyrus runs the Cyrus IMAP server of Debian 12 in a root of its own, with the configuration that the package installs but
// for the port, the directories and the check of passwords.
package cyrus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/e2e/daemon"
)

// Server is a running Cyrus.
type Server struct {
	// Addr is the host and port of plain IMAP, on loopback.
	Addr string

	dir    string
	daemon *daemon.Daemon
}

// services is cyrus.conf: IMAP alone.
const services = `
START {
  recover cmd="/usr/sbin/cyrus ctl_cyrusdb -r"
}
SERVICES {
  imap cmd="imapd -U 30" listen="ADDR" prefork=0 maxchild=100
}
EVENTS {
}
`

// run prepares the directories and becomes the master process. It runs in a mount namespace of its own.
const run = `
set -e
cd DIR
cp -a /var/lib/cyrus lib
cp -a /var/spool/cyrus spool
mkdir run
chown cyrus:mail run
mount --bind lib /var/lib/cyrus
mount --bind spool /var/spool/cyrus
mkdir -p /run/cyrus
mount --bind run /run/cyrus
mkdir -p run/proc run/lock run/socket
chown cyrus:mail run/proc run/lock run/socket
sed 's/^sasl_pwcheck_method:.*/sasl_pwcheck_method: alwaystrue/' /etc/imapd.conf >imapd.conf
echo 'sasl_mech_list: PLAIN LOGIN' >>imapd.conf
mount --bind imapd.conf /etc/imapd.conf
echo configured
exec /usr/lib/cyrus/bin/master -D -M DIR/cyrus.conf -p DIR/run/master.pid
`

// Start runs Cyrus in root, where it is installed, until Stop. Whoever logs in exists, with any password and an empty INBOX
// at first. ctx bounds only the start.
func Start(ctx context.Context, root *chroot.Root) (_ *Server, err error) {
	dir, err := os.MkdirTemp("", "cyrus") // short, since paths of Unix sockets end at 107 bytes
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
	replacer := strings.NewReplacer("DIR", dir, "ADDR", s.Addr)
	if err := os.WriteFile(filepath.Join(dir, "cyrus.conf"), []byte(replacer.Replace(services)), 0o644); err != nil {
		return nil, err
	}
	cmd, err := root.Command(nil, "sh", "-c", replacer.Replace(run))
	if err != nil {
		return nil, err
	}
	if s.daemon, err = daemon.Start(ctx, cmd, "configured"); err != nil {
		return nil, err
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
