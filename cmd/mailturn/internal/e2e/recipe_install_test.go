package e2e

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
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

const (
	configuration = "/etc/mailturn/maddy.conf"
	// readable gives what was written there the mode that it is installed with.
	readable  = "chgrp mailturn " + configuration + "\nchmod 0640 " + configuration + "\n"
	startUnit = "systemctl start mailturn\n"
)

// installed returns a machine on which the documented commands for the installation have been run.
func installed(t *testing.T, d documents) machine {
	t.Helper()
	m := newMachine(t)
	m.run(t, d.find(t, "docs/install.md", "Install from source", "sudo useradd").Text)
	return m
}

// configured is installed with another configuration.
func configured(t *testing.T, d documents, text string) machine {
	t.Helper()
	m := installed(t, d)
	m.write(t, configuration, text)
	m.run(t, readable)
	return m
}

// systemdVersion is that of the machine, for a recipe's cell.
func (m machine) systemdVersion(t *testing.T) string {
	t.Helper()
	return "systemd " + versionIn(t, m.run(t, "systemctl --version"))
}

// buildOne builds the program as documented for the installation, and checks that it requires no library and contains no local path.
// The control needs a C compiler, since mailturn then takes the C library for names of hosts and users.
func buildOne(t *testing.T, _ documents, b recipe.Block) {
	peer(t, "gcc", "gcc libc6-dev")
	build := func(command string) (text []byte, interpreter bool) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "mailturn")
		cmd := exec.Command("sh", "-ec", command)
		cmd.Dir, cmd.Env = "../../../..", append(os.Environ(), "GOFLAGS=-o="+path)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if out, err := exec.Command(path, "version").CombinedOutput(); err != nil {
			t.Errorf("version: %v\n%s", err, out)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file, err := elf.NewFile(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range file.Progs {
			interpreter = interpreter || p.Type == elf.PT_INTERP
		}
		return text, interpreter
	}
	here, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	if text, interpreter := build(b.Text); interpreter || bytes.Contains(text, []byte(here)) {
		t.Errorf("the program needs libraries: %v; it has paths of the machine that built it: %v", interpreter, bytes.Contains(text, []byte(here)))
	}
	if text, interpreter := build(replaced(t, b, "CGO_ENABLED=0", "CGO_ENABLED=1", "-trimpath", "")); !interpreter || !bytes.Contains(text, []byte(here)) {
		t.Error("without CGO_ENABLED=0 and -trimpath the program is the same")
	}
	worked(t, b, "Go "+goVersion(t), "build of a program that runs, needs no library and names no path", "without CGO_ENABLED=0; without -trimpath")
}

// install runs the commands twice, as for an upgrade, and makes systemd read the unit.
func install(t *testing.T, _ documents, b recipe.Block) {
	m := newMachine(t)
	m.run(t, b.Text)
	m.run(t, without(t, b.Text, "useradd"))
	if out := m.run(t, "systemd-analyze verify mailturn.service"); strings.Contains(out, "mailturn") {
		t.Errorf("systemd says of the unit\n%s", out)
	}
	m.run(t, "sudo -u mailturn STATE_DIRECTORY=/run mailturn check-config "+configuration)
	newMachine(t).fails(t, without(t, b.Text, "useradd"), "invalid group")
	worked(t, b, m.systemdVersion(t), "install; systemd verifies the unit, and its user reads the configuration", "without useradd")
}

// startInstalled starts the unit with the example, and checks what the text says about status and journal.
func startInstalled(t *testing.T, d documents, b recipe.Block) {
	m := installed(t, d)
	m.run(t, b.Text+": >/dev/tcp/127.0.0.1/11993\nsystemctl is-enabled mailturn")
	if out := m.run(t, "systemctl status mailturn"); !strings.Contains(out, `Status: "Serving endpoint turn "turn", endpoint imap "imap"`) {
		t.Errorf("the status is\n%s", out)
	}
	const reloaded = "journalctl --unit=mailturn | grep -c msg=reloaded"
	m.run(t, "systemctl reload mailturn\n[ $("+reloaded+") = 1 ]")
	m.fails(t, "sed -i 's/^hostname.*/hostname = \"changed.example\"/' "+configuration+"\nsystemctl reload mailturn", "Not applied:")
	m.run(t, "printf 'control {\\n enable = false\\n}\\n' >>"+configuration+"\nsystemctl restart mailturn\nsystemctl reload mailturn\n"+
		waitUntil("[ $("+reloaded+") = 2 ]"))
	m.run(t, "systemctl restart mailturn\nsystemctl stop mailturn")
	m.fails(t, "rm "+configuration+"\n"+b.Text, "no such file")
	worked(t, b, m.systemdVersion(t), "start by systemd, which says what serves; reload, restart and stop", "without the configuration")
}

// checkInstalled checks a configuration for production, as root.
func checkInstalled(t *testing.T, d documents, b recipe.Block) {
	m := configured(t, d, production)
	const unreadable = "For the user mailturn"
	if out := m.run(t, b.Text); strings.Contains(out, unreadable) {
		t.Errorf("check-config says\n%s", out)
	}
	if out := m.run(t, "chmod 0600 "+configuration+"\n"+b.Text); !strings.Contains(out, unreadable) {
		t.Errorf("check-config does not notice that the unit's user cannot read the file:\n%s", out)
	}
	worked(t, b, m.systemdVersion(t), "check-config of a configuration for production, as root", "a file that the user of the unit cannot read")
}

// loginInFront logs in as a client of the machine does, and asks for the relay.
const loginInFront = `
useradd --create-home alice
echo alice:wonderland | chpasswd
curl --silent --verbose --insecure --user alice:wonderland --request 'GETMETADATA "" /shared/vendor/deltachat/turn' imaps://localhost
`

// moveDovecot puts mailturn in front of the Dovecot that is installed, with Debian's configuration and accounts, and logs in.
func moveDovecot(t *testing.T, d documents, b recipe.Block) {
	m := configured(t, d, production)
	if out := m.run(t, b.Text+startUnit+loginInFront); !strings.Contains(out, "* METADATA \"\" (/shared/vendor/deltachat/turn ") {
		t.Errorf("a client is told\n%s", out)
	}
	version := "Dovecot " + versionIn(t, m.run(t, "dovecot --version"))
	configured(t, d, production).fails(t, without(t, b.Text, "local.conf")+"systemctl restart dovecot\n"+startUnit, "address already in use")
	worked(t, b, version, "in front of Dovecot as Debian installs it: a login with an account of the system, and GETMETADATA", "without the exported lines")
}

// moveInFromCoturn has a file of coturn translated, on a machine on which the example has been installed.
func moveInFromCoturn(t *testing.T, d documents, b recipe.Block) {
	version := "coturn " + programVersion(t, peer(t, "turnserver", "coturn"), "--version")
	const coturn = "listening-ip=127.0.0.1\nuse-auth-secret\nstatic-auth-secret=north-of-coturn-and-east-of-it\nrealm=localhost\n"
	m := installed(t, d)
	m.write(t, "/etc/turnserver.conf", coturn)
	m.run(t, b.Text+startUnit+"grep -q north-of-coturn "+configuration)
	m.write(t, "/etc/turnserver.conf", coturn+"listening-port=none\n")
	m.fails(t, b.Text, "listening-port")
	worked(t, b, version, "import of coturn's configuration over the installed example, and a start with it", "a value that cannot be translated")
}
