package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/e2e/recipe"
)

// production is a configuration in front of Dovecot, as the lines marked PRODUCTION of the example say.
const production = `
hostname = "localhost"
endpoint "turn" "turn" {
  listen   = ["udp://127.0.0.1:3478", "tcp://127.0.0.1:3478", "tls://127.0.0.1:5349"]
  relay_ip = "127.0.0.1"
}
endpoint "imap" "imap" {
  listen      = ["tls://127.0.0.1:993", "tcp://127.0.0.1:143"]
  turn_server = "localhost"
  upstream {
    address        = "tcp://127.0.0.1:1143"
    client_address = "id"
  }
}
`

// asMailturn runs a command as the user of the unit.
const asMailturn = "STATE_DIRECTORY=/var/lib/mailturn setpriv --reuid mailturn --regid mailturn --clear-groups "

// installed returns a machine on which the README's commands for the installation have been run.
func installed(t *testing.T, d documents) machine {
	t.Helper()
	m := newMachine(t)
	m.run(t, d.find(t, "README.md", "Install it", "sudo useradd").Text)
	return m
}

func systemdVersion(t *testing.T) string {
	t.Helper()
	return "systemd " + programVersion(t, peer(t, "systemd-analyze", "systemd"), "--version")
}

// dryBuild has go build print what it would do, which wants every package to be there without C.
func dryBuild(t *testing.T, _ documents, b recipe.Block) {
	build := exec.Command("sh", "-ec", b.Text)
	build.Dir, build.Env = "../../..", append(os.Environ(), "GOFLAGS=-n")
	if out, err := build.CombinedOutput(); err != nil || !strings.Contains(string(out), "/link") {
		t.Errorf("%v, and links nothing:\n%s", err, out)
	}
	commandsExist(t, nil, b)
}

// install runs the commands twice, as somebody does who upgrades, and has systemd read the unit.
func install(t *testing.T, _ documents, b recipe.Block) {
	version := systemdVersion(t)
	m := newMachine(t)
	m.run(t, b.Text)
	m.run(t, without(t, b.Text, "useradd"))
	if out := m.run(t, "systemd-analyze verify /etc/systemd/system/mailturn.service"); strings.Contains(out, "mailturn") {
		t.Errorf("systemd says of the unit\n%s", out)
	}
	m.run(t, asMailturn+"mailturn check-config /etc/mailturn/maddy.conf")
	newMachine(t).fails(t, without(t, b.Text, "useradd"), "invalid group")
	worked(t, b, version, "install; systemd verifies the unit, and its user reads the configuration", "without useradd")
}

// serve starts what the unit starts, as its user, and waits until it listens. In the place of systemctl.
const serve = `
serve() {
  : >/run/log
  install -d -m 0700 /var/lib/mailturn
  chown -R mailturn:mailturn /var/lib/mailturn # as systemd does with a StateDirectory= that is somebody else's
  STATE_DIRECTORY=/var/lib/mailturn setpriv --reuid mailturn --regid mailturn --clear-groups \
    --inh-caps -all,+net_bind_service --ambient-caps +net_bind_service \
    $(sed -n 's/^ExecStart=//p' /etc/systemd/system/mailturn.service) >/run/log 2>&1 &
  for i in $(seq 300); do
    ! grep -q msg=ready /run/log || return 0
    sleep 0.1
    kill -0 $! 2>/dev/null || break
  done
  cat /run/log
  return 1
}
`

// startInstalled starts the installed unit's command in the place of systemd.
func startInstalled(t *testing.T, d documents, b recipe.Block) {
	if want := "sudo systemctl enable --now mailturn\n"; b.Text != want {
		t.Fatalf("got %q, and this test is for %q", b.Text, want)
	}
	m := installed(t, d)
	m.run(t, serve+"grep -q ^WantedBy= /etc/systemd/system/mailturn.service\nserve")
	m.fails(t, serve+"rm /etc/mailturn/maddy.conf\nserve", "no such file")
	worked(t, b, systemdVersion(t), "start of the installed unit's command, as its user", "without the configuration")
}

// checkInstalled checks a configuration for production, as root.
func checkInstalled(t *testing.T, d documents, b recipe.Block) {
	m := installed(t, d)
	m.write(t, "etc/mailturn/maddy.conf", production)
	const unreadable = "For the user mailturn"
	if out := m.run(t, "chgrp mailturn /etc/mailturn/maddy.conf\nchmod 0640 /etc/mailturn/maddy.conf\n"+b.Text); strings.Contains(out, unreadable) {
		t.Errorf("check-config says\n%s", out)
	}
	if out := m.run(t, "chmod 0600 /etc/mailturn/maddy.conf\n"+b.Text); !strings.Contains(out, unreadable) {
		t.Errorf("check-config does not notice that the unit's user cannot read the file:\n%s", out)
	}
	worked(t, b, "bash "+programVersion(t, "bash", "--version"), "check-config of a configuration for production, as root", "a file that the user of the unit cannot read")
}

// loginInFront logs in as a client of the machine does, and asks for the relay.
const loginInFront = `
install -d -m 0777 /run/home
useradd --create-home --home-dir /run/home/alice alice
echo alice:wonderland | chpasswd
dovecot
serve
curl --silent --verbose --insecure --user alice:wonderland --request 'GETMETADATA "" /shared/vendor/deltachat/turn' imaps://localhost
`

// moveDovecot puts mailturn in front of the Dovecot that is installed, with Debian's configuration and accounts, and logs in.
func moveDovecot(t *testing.T, d documents, b recipe.Block) {
	version := "Dovecot " + programVersion(t, peer(t, "dovecot", "dovecot-imapd"), "--version")
	peer(t, "curl", "curl")
	m := installed(t, d)
	m.write(t, "etc/mailturn/maddy.conf", production)
	if out := m.run(t, serve+b.Text+loginInFront); !strings.Contains(out, "* METADATA \"\" (/shared/vendor/deltachat/turn ") {
		t.Errorf("a client is told\n%s", out)
	}
	m = installed(t, d)
	m.write(t, "etc/mailturn/maddy.conf", production)
	m.fails(t, serve+without(t, b.Text, "local.conf")+loginInFront, "address already in use")
	worked(t, b, version, "in front of Dovecot as Debian installs it: a login with an account of the system, and GETMETADATA", "without the exported lines")
}

// chatmailRelay runs the command on a machine with chatmail's units, and the README's endpoint.
func chatmailRelay(t *testing.T, d documents, b recipe.Block) {
	version := systemdVersion(t)
	m := installed(t, d)
	turn := "hostname = \"localhost\"\nendpoint \"turn\" \"turn\" {\n}\n"
	m.write(t, "etc/mailturn/maddy.conf", turn+d.find(t, "README.md", b.Heading, `endpoint "credsock"`).Text)
	m.write(t, "etc/systemd/system/turnserver.service", chatmailTurnserver)
	m.run(t, "groupadd vmail\n"+b.Text)
	m.fails(t, "systemd-analyze condition --unit=turnserver.service", "Conditions failed")
	m.run(t, "grep -q ^SupplementaryGroups=vmail /etc/systemd/system/mailturn.service.d/chatmail.conf")
	if out := m.run(t, "systemd-analyze verify /etc/systemd/system/mailturn.service"); strings.Contains(out, "mailturn") {
		t.Errorf("systemd says of the unit\n%s", out)
	}
	m.run(t, "rm -r /etc/systemd/system/turnserver.service.d\nsystemd-analyze condition --unit=turnserver.service")
	m.write(t, "etc/mailturn/maddy.conf", turn)
	m.fails(t, "set -o pipefail\n"+b.Text, "has neither")
	worked(t, b, version, "drop-ins for chatmail's units: systemd starts mailturn in the place of chatmail-turn", "without the drop-in; without the endpoint")
}

// dropIn has systemd read the unit with the drop-in.
func dropIn(t *testing.T, d documents, b recipe.Block) {
	version := systemdVersion(t)
	m := installed(t, d)
	const name = "etc/systemd/system/mailturn.service.d/override.conf"
	verify := "systemd-analyze verify /etc/systemd/system/mailturn.service"
	m.write(t, name, b.Text)
	if out := m.run(t, verify); strings.Contains(out, "mailturn") {
		t.Errorf("systemd says of the drop-in\n%s", out)
	}
	m.write(t, name, replaced(t, b, "SupplementaryGroups", "SuplementaryGroups"))
	if out := m.run(t, verify); !strings.Contains(out, "Unknown key") {
		t.Errorf("systemd does not notice a misspelt setting:\n%s", out)
	}
	worked(t, b, version, "drop-in of the unit, verified", "a misspelt setting")
}

// certbotHook runs the hook on certificates that are kept as certbot keeps them, and has the configuration of the text read them.
func certbotHook(t *testing.T, d documents, b recipe.Block) {
	hook := d.find(t, "docs/operating.md", b.Heading, "#!/bin/sh")
	byHand := d.find(t, "docs/operating.md", b.Heading, "RENEWED_LINEAGE=")
	const (
		issue = `
live=/etc/letsencrypt/live/mail.example.org
install -d -m 0700 "$live"
(umask 077; openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -keyout "$live/privkey.pem" -out "$live/fullchain.pem" 2>/dev/null)
chmod 0755 /etc/letsencrypt/renewal-hooks/deploy/mailturn
`
		pair = "tls {\n  cert = \"/etc/mailturn/fullchain.pem\"\n  key = \"/etc/mailturn/privkey.pem\"\n}\n"
		read = "\n" + asMailturn + "mailturn check-config /etc/mailturn/maddy.conf\nmailturn check-config /etc/mailturn/maddy.conf"
	)
	m := installed(t, d)
	m.write(t, "etc/mailturn/maddy.conf", pair+production)
	m.write(t, "etc/letsencrypt/renewal-hooks/deploy/mailturn", hook.Text)
	m.run(t, issue+byHand.Text+read)
	m.run(t, byHand.Text+read) // the next renewal
	m.write(t, "etc/letsencrypt/renewal-hooks/deploy/mailturn", replaced(t, hook, "-m 0640 -g mailturn", "-m 0600"))
	m.fails(t, byHand.Text+read, "privkey.pem")
	worked(t, b, "bash "+programVersion(t, "bash", "--version"), "hook of certbot, and the certificate in use", "the key without the group mailturn")
}

// rotateSecret gives a relay another secret, while credentials of both are out.
func rotateSecret(t *testing.T, d documents, b recipe.Block) {
	commands := d.find(t, "docs/operating.md", b.Heading, "install -m")
	list := d.find(t, "docs/operating.md", b.Heading, "secret = [")
	const probe = "\nfor each in turn.secret.old turn.secret; do mailturn probe --quick --secret-file /etc/mailturn/$each turn:localhost; done"
	run := serve + "serve\nkill $!\nwait\ncd /etc/mailturn\n" + commands.Text
	rotated := func(list string) string {
		return strings.Replace(production, "relay_ip", "peers {\n    allow = [\"127.0.0.0/8\"]\n  }\n"+list+"  relay_ip", 1)
	}
	m := installed(t, d)
	m.write(t, "etc/mailturn/maddy.conf", production)
	m.run(t, run)
	m.write(t, "etc/mailturn/maddy.conf", rotated(list.Text))
	m.run(t, serve+"serve"+probe)
	m.write(t, "etc/mailturn/maddy.conf", rotated(replaced(t, list, `, file("/etc/mailturn/turn.secret.old")`, "")))
	m.fails(t, serve+"serve"+probe, "401")
	worked(t, b, "bash "+programVersion(t, "bash", "--version"), "another secret, with credentials of the old one still good", "without the old secret in the list")
}

// moveInFromCoturn has a file of coturn translated, on a machine on which the example has been installed.
func moveInFromCoturn(t *testing.T, d documents, b recipe.Block) {
	version := "coturn " + programVersion(t, peer(t, "turnserver", "coturn"), "--version")
	const coturn = "listening-ip=127.0.0.1\nuse-auth-secret\nstatic-auth-secret=north-of-coturn-and-east-of-it\nrealm=localhost\n"
	m := installed(t, d)
	m.write(t, "etc/turnserver.conf", coturn)
	m.run(t, b.Text)
	m.run(t, serve+"serve\ngrep -q north-of-coturn /etc/mailturn/maddy.conf")
	m.write(t, "etc/turnserver.conf", coturn+"listening-port=none\n")
	m.fails(t, b.Text, "listening-port")
	worked(t, b, version, "import of coturn's configuration over the installed example, and a start with it", "a value that cannot be translated")
}
