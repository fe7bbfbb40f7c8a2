// Package courier runs the Courier IMAP server of Debian 12 in a root of its own, with the configuration that the package installs
// but for the port, the users and how many connections one address may have.
package courier

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/e2e/daemon"
)

// Server is a running Courier.
type Server struct {
	// Addr is the host and port of plain IMAP, on loopback.
	Addr string

	dir    string
	daemon *daemon.Daemon
}

// owner is the user and group ID of the mailboxes: Courier refuses to serve mail as root.
const owner = 65534

// run prepares the directories, starts both daemons and ends them. It runs in a mount namespace of its own.
const run = `
set -e
cd DIR
cp -a /etc/courier etc
sed -i 's/^authmodulelist=.*/authmodulelist="authuserdb"/' etc/authdaemonrc
mv userdb etc
chmod 600 etc/userdb
mount --bind etc /etc/courier
makeuserdb
mkdir -p /run/courier
mount -t tmpfs tmpfs /run/courier
mkdir -p /run/courier/authdaemon
set -a
. /etc/courier/imapd-ssl
. /etc/courier/imapd
IMAP_STARTTLS=NO
set +a
/usr/lib/courier/courier-authlib/authdaemond &
auth=$!
/usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=100 -maxperip=100 -nodnslookup -noidentlookup PORT \
  /usr/lib/courier/courier/imaplogin /usr/bin/imapd Maildir &
imap=$!
trap 'kill $imap $auth' TERM
echo configured
wait
wait
`

// Start runs Courier in root, where it is installed, until Stop. Each user has the password and an empty INBOX at first. ctx bounds
// only the start.
func Start(ctx context.Context, root *chroot.Root, users []string, password string) (_ *Server, err error) {
	dir, err := os.MkdirTemp("", "courier")
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
	if err := s.addUsers(users, password); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	cmd, err := root.Command(nil, "sh", "-c", strings.NewReplacer("DIR", dir, "PORT", port).Replace(run))
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

// addUsers makes the homes, with a Maildir in each, and userdb.
func (s *Server) addUsers(users []string, password string) error {
	sum := sha256.Sum256([]byte(password))
	hash := "{SHA256}" + base64.StdEncoding.EncodeToString(sum[:])
	var userdb strings.Builder
	for _, name := range users {
		home := filepath.Join(s.dir, name)
		for _, path := range []string{home, home + "/Maildir", home + "/Maildir/cur", home + "/Maildir/new", home + "/Maildir/tmp"} {
			if err := os.Mkdir(path, 0o700); err != nil {
				return err
			}
			if err := os.Chown(path, owner, owner); err != nil {
				return err
			}
		}
		fmt.Fprintf(&userdb, "%s\tuid=%d|gid=%[2]d|home=%s|mail=%[3]s/Maildir|imappw=%s\n", name, owner, home, hash)
	}
	return os.WriteFile(filepath.Join(s.dir, "userdb"), []byte(userdb.String()), 0o600)
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
