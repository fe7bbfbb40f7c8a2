package e2e

import (
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
)

// chatmailRelay runs the command on a relay with chatmail's unit. systemd must not start that unit any more, and mailturn's socket
// must belong to the daemons' group.
func chatmailRelay(t *testing.T, d documents, b recipe.Block) {
	turn := "hostname = \"localhost\"\nendpoint \"turn\" \"turn\" {\n  relay_ip = \"127.0.0.1\"\n}\n"
	m := configured(t, d, turn+d.find(t, "docs/credentials.md", b.Heading, `endpoint "credsock"`).Text)
	m.write(t, "/etc/systemd/system/turnserver.service", strings.Replace(chatmailTurnserver, "/bin/true", "/bin/sleep infinity", 1))
	m.run(t, "useradd --system vmail\nsystemctl daemon-reload\nsystemctl start turnserver\nsystemctl is-active turnserver")
	m.run(t, b.Text+"systemctl restart mailturn turnserver\n! systemctl is-active turnserver")
	if got := strings.TrimSpace(m.run(t, "stat --format='%G %a' /run/mailturn/turn.socket")); got != "vmail 660" {
		t.Errorf("the socket has the group and mode %s, want vmail 660", got)
	}
	m.run(t, "rm -r /etc/systemd/system/turnserver.service.d\nsystemctl daemon-reload\nsystemctl restart turnserver\nsystemctl is-active turnserver")
	m.write(t, configuration, turn)
	m.fails(t, b.Text, "has neither")
	worked(t, b, m.systemdVersion(t), "drop-ins for chatmail's units: systemd starts mailturn in place of chatmail-turn", "without the drop-in; without the endpoint")
}

// edit is an editor for systemctl edit that writes the drop-in.
const (
	edit   = "/usr/local/bin/editor-of-the-test"
	typed  = "/run/typed"
	dropIn = "chmod 0755 " + edit + "\nSYSTEMD_EDITOR=" + edit + " script --quiet --return --command 'systemctl edit mailturn' /dev/null\nsystemctl restart mailturn\n"
)

// socketForGroup adds the drop-in as documented, and checks that the socket belongs to the group.
func socketForGroup(t *testing.T, d documents, b recipe.Block) {
	credsock := d.find(t, "docs/credentials.md", "A chatmail relay", `endpoint "credsock"`).Text
	m := configured(t, d, "hostname = \"localhost\"\nendpoint \"turn\" \"turn\" {\n  relay_ip = \"127.0.0.1\"\n}\n"+credsock)
	m.write(t, edit, "#!/bin/sh\ncp "+typed+" \"$1\"\n")
	m.write(t, typed, b.Text)
	m.run(t, "groupadd vmail\n"+dropIn)
	if got := strings.TrimSpace(m.run(t, "stat --format='%G %a' /run/mailturn/turn.socket")); got != "vmail 660" {
		t.Errorf("the socket has the group and mode %s, want vmail 660", got)
	}
	m.write(t, typed, replaced(t, b, "SupplementaryGroups", "SuplementaryGroups"))
	m.fails(t, dropIn, "operation not permitted")
	worked(t, b, m.systemdVersion(t), "drop-in of systemctl edit, with which a socket belongs to the group", "a misspelt setting")
}

// controlGroup creates the group as the text says, and checks that its members may use mailturn ctl, and that others may not.
func controlGroup(t *testing.T, d documents, b recipe.Block) {
	m := configured(t, d, "hostname = \"localhost\"\nendpoint \"turn\" \"turn\" {\n  relay_ip = \"127.0.0.1\"\n}\n")
	const status = "setpriv --reuid=olga --regid=olga --init-groups mailturn ctl status"
	m.run(t, "useradd olga")
	m.fails(t, status, "you may not use the control socket")
	m.run(t, b.Text)
	m.fails(t, status, "you may not use the control socket")
	m.run(t, "usermod --append --groups mailturn-admin olga\n"+status)
	worked(t, b, m.systemdVersion(t), "a group of its own for mailturn ctl", "an operator who is no member")
}

// certbot is what certbot does of a renewal: it writes a pair that root alone can read, and runs the hooks.
const certbot = `
renew() { # NAME
  issue "$1"
  export RENEWED_LINEAGE=/etc/letsencrypt/live/$1 RENEWED_DOMAINS=$1
  for hook in /etc/letsencrypt/renewal-hooks/deploy/*; do "$hook"; done
}
issue() { # NAME
  install -d -m 0700 "/etc/letsencrypt/live/$1"
  (cd "/etc/letsencrypt/live/$1"; umask 077
    openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout privkey.pem -out fullchain.pem 2>/dev/null)
}
# Both wait for mailturn, which looks at the files every five seconds.
inUse() { # wants the certificate on port 993 to become the one for mail.example.org
  want=$(openssl x509 -noout -fingerprint -in /etc/letsencrypt/live/mail.example.org/fullchain.pem)
  for i in $(seq 240); do
    got=$(openssl s_client -connect 127.0.0.1:993 </dev/null 2>/dev/null | openssl x509 -noout -fingerprint)
    [ "$got" != "$want" ] || return 0
    sleep 0.5
  done
  journalctl --unit=mailturn
  return 1
}
isReadable() { # wants no line of the log with the error of files that cannot be read
  for i in $(seq 240); do
    ! journalctl --unit=mailturn | grep 'certificate not reloaded.*permission denied' || return 1
    sleep 0.5
  done
}
`

// certbotHook has the hook copy a pair, the running mailturn use it, and then the next one, although certbot renews another one as well.
func certbotHook(t *testing.T, d documents, b recipe.Block) {
	hook := d.find(t, "docs/operating.md", b.Heading, "#!/bin/sh")
	byHand := d.find(t, "docs/operating.md", b.Heading, "/etc/letsencrypt/renewal-hooks/deploy/mailturn")
	const (
		path = "/etc/letsencrypt/renewal-hooks/deploy/mailturn"
		pair = "tls {\n  cert = \"/etc/mailturn/fullchain.pem\"\n  key = \"/etc/mailturn/privkey.pem\"\n}\n"
	)
	m := configured(t, d, pair+production)
	m.write(t, path, hook.Text)
	m.run(t, certbot+"chmod 0755 "+path+"\nissue mail.example.org\n"+byHand.Text+startUnit+"inUse")
	m.run(t, certbot+"renew mail.example.org\nrenew www.example.org\ninUse")
	m.write(t, path, replaced(t, hook, "-m 0640 -g mailturn", "-m 0600"))
	m.fails(t, certbot+"chmod 0755 "+path+"\nrenew mail.example.org\nisReadable", "permission denied")
	worked(t, b, m.systemdVersion(t), "hook that certbot runs on renewal, and the new certificate in use without a reload", "the key without the group mailturn")
}

// reload has systemd reload the unit, which returns when the configuration is in force.
const reload = "systemctl reload mailturn\n"

// rotateSecret gives a relay another secret, while credentials of both are out.
func rotateSecret(t *testing.T, d documents, b recipe.Block) {
	commands := d.find(t, "docs/operating.md", b.Heading, "install -m")
	list := d.find(t, "docs/operating.md", b.Heading, "secret = [")
	const probe = "\ncd /etc/mailturn\nfor each in turn.secret.old turn.secret; do mailturn probe --quick --secret-file $each turn:localhost; done"
	withSecrets := func(list string) string {
		return strings.Replace(production, "relay_ip", "peers {\n    allow = [\"127.0.0.0/8\"]\n  }\n"+list+"  relay_ip", 1)
	}
	m := configured(t, d, withSecrets(""))
	m.run(t, startUnit+"cd /etc/mailturn\n"+commands.Text)
	m.write(t, configuration, withSecrets(list.Text))
	m.run(t, reload+probe)
	m.write(t, configuration, withSecrets(replaced(t, list, `, file("/etc/mailturn/turn.secret.old")`, "")))
	m.fails(t, reload+probe, "401")
	worked(t, b, m.systemdVersion(t), "another secret by a reload, with credentials of the old one still good", "without the old secret in the list")
}
