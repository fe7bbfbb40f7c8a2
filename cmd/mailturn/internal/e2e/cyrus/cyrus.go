// Package cyrus runs the Cyrus IMAP server of Debian 12 in a root of its own, with the configuration that the package installs,
// except for the port, the directories and the check of passwords.
package cyrus

import (
	"context"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
)

// services is cyrus.conf, with the line of one service.
const services = `
START {
  recover cmd="/usr/sbin/cyrus ctl_cyrusdb -r"
}
SERVICES {
SERVICE}
EVENTS {
}
`

// run prepares the directories and becomes the master process.
const run = `
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

// Start runs Cyrus in root, where it is installed, until Stop. Every user exists, with any password and an INBOX that is empty at
// first. service is the line for IMAP in cyrus.conf, with ADDR for the address. ctx bounds only the start.
func Start(ctx context.Context, root *chroot.Root, service string) (*chroot.Server, error) {
	files := map[string]string{"cyrus.conf": strings.Replace(services, "SERVICE}", service+"}", 1)}
	return root.Serve(ctx, chroot.Program{Name: "cyrus", Files: files, Script: run, Ready: "configured"})
}
