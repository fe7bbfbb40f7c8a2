// Package courier runs the Courier IMAP server of Debian 12 in a root of its own, with the configuration that the package installs,
// except for the port, the users and how many connections one address may have.
package courier

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
)

// owner is the user and group ID of the mailboxes: Courier refuses to serve mail as root.
const owner = 65534

// run prepares the directories, starts both daemons and ends them.
const run = `
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

// Start runs Courier in root, where it is installed, until Stop. Each user has the password, and an INBOX that is empty at first.
// ctx bounds only the start.
func Start(ctx context.Context, root *chroot.Root, users []string, password string) (*chroot.Server, error) {
	return root.Serve(ctx, chroot.Program{
		Name:    "courier",
		Prepare: func(dir string) error { return addUsers(dir, users, password) },
		Script:  run,
		Ready:   "configured",
	})
}

// addUsers makes the homes in dir, with a Maildir in each, and userdb.
func addUsers(dir string, users []string, password string) error {
	sum := sha256.Sum256([]byte(password))
	hash := "{SHA256}" + base64.StdEncoding.EncodeToString(sum[:])
	var userdb strings.Builder
	for _, name := range users {
		home := filepath.Join(dir, name)
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
	return os.WriteFile(filepath.Join(dir, "userdb"), []byte(userdb.String()), 0o600)
}
