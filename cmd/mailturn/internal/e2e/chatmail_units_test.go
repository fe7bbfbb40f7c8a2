package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// What matters here of the units of a chatmail relay, version 1.12 (github.com/chatmail/relay, cmdeploy/src/cmdeploy/service), and
// of what its Dovecot is configured with. cmdeploy writes these files each time it runs.
const (
	chatmailTurnserver = "[Service]\nRestart=always\nExecStart=/bin/true\nRuntimeDirectory=chatmail-turn\nUser=vmail\n"
	chatmailMetadata   = "[Service]\nRestart=always\nExecStart=/bin/true\nRuntimeDirectory=chatmail-metadata\nUser=vmail\nUMask=0077\n"
	chatmailDovecot    = "protocols = imap\nmail_attribute_dict = proxy:/run/chatmail-metadata/metadata.socket:metadata\nprotocol imap {\n  imap_metadata = yes\n}\n"
	debianDovecot      = "[Service]\nType=notify\nExecStart=/usr/sbin/dovecot -F\n" // Debian's dovecot.service
)

// inChatmailRelay runs the exported commands, and then others, in an /etc of their own with chatmail's files.
const inChatmailRelay = `
cp /etc/passwd /etc/group "$1"
mount -t tmpfs tmpfs /etc
mkdir -p /etc/systemd/system /etc/mailturn /etc/dovecot
cp "$1"/passwd "$1"/group /etc
cp "$1"/*.service /etc/systemd/system
cp "$1"/dovecot.conf /etc/dovecot
cp /usr/bin/true "$1"/systemctl
PATH=$1:$PATH sh -e "$1"/exported
`

// TestChatmailUnits installs, several times, the files exported for a chatmail relay beside its own units, and checks the result
// with systemd and Dovecot.
func TestChatmailUnits(t *testing.T) {
	analyze := peer(t, "systemd-analyze", "systemd")
	doveconf := peer(t, "doveconf", "dovecot-core")
	needRoot(t, "an /etc of its own")
	dir := t.TempDir()
	config := filepath.Join(dir, "maddy.conf")
	text := fmt.Sprintf(`
endpoint "dict" "dovecot" {
  path        = "/run/mailturn/dict.socket"
  next        = "/run/chatmail-metadata/metadata.socket"
  turn_server = "127.0.0.1"
  turn_secret = %q
}
`, secret)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	exported, _ := export(t, "chatmail", config)
	for name, text := range map[string]string{
		"turnserver.service": chatmailTurnserver, "chatmail-metadata.service": chatmailMetadata, "dovecot.service": debianDovecot,
		"dovecot.conf": chatmailDovecot,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(exported, filepath.Join(dir, "exported")); err != nil {
		t.Fatal(err)
	}
	relay := func(commands string) string {
		t.Helper()
		output, err := exec.Command("unshare", "--mount", "sh", "-ec", inChatmailRelay+commands, "sh", dir).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", commands, err, output)
		}
		return string(output)
	}
	relay(analyze + ` condition --unit=turnserver.service`)
	if output := relay(`touch /etc/mailturn/maddy.conf; ! ` + analyze + ` condition --unit=turnserver.service`); !strings.Contains(output, "Conditions failed") {
		t.Errorf("beside mailturn, systemd says of turnserver.service:\n%s", output)
	}
	if output := relay(`PATH=$1:$PATH sh -e "$1"/exported; ` + analyze + ` verify turnserver.service chatmail-metadata.service`); output != "" {
		t.Errorf("systemd has something against the drop-ins:\n%s", output)
	}
	commands := regexp.MustCompile(`(?m)^ExecStart=.*`).FindAllString(relay(`cat /etc/systemd/system/dovecot.service /etc/systemd/system/dovecot.service.d/*`), -1)
	if want := []string{"ExecStart=/usr/sbin/dovecot -F", "ExecStart=", "ExecStart=/usr/sbin/dovecot -F -c /etc/mailturn/dovecot.conf"}; strings.Join(commands, "\n") != strings.Join(want, "\n") {
		t.Errorf("Dovecot is started by %q, want %q", commands, want)
	}
	if output := relay(doveconf + ` -c /etc/mailturn/dovecot.conf mail_attribute_dict protocols`); !strings.Contains(output, "mail_attribute_dict = proxy:/run/mailturn/dict.socket:metadata") ||
		!strings.Contains(output, "protocols = imap") {
		t.Errorf("Dovecot reads\n%s", output)
	}
}

// setting returns the last value that a unit gives a setting.
func setting(t *testing.T, unit, name string) string {
	t.Helper()
	all := regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(unit, -1)
	if len(all) == 0 {
		t.Fatalf("no %s in\n%s", name, unit)
	}
	return all[len(all)-1][1]
}

// chatmailDict is a dict server at a socket, which it makes with a umask.
const chatmailDict = `
import os, socket, sys
os.umask(int(sys.argv[2], 8))
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listening", flush=True)
while True:
    connection = listener.accept()[0]
    for line in connection.makefile("rb"):
        if line.startswith(b"L"):
            connection.sendall(b"Otoken\n")
`

// TestChatmailMetadataSocket asks mailturn, a member of the group vmail, for a key of chatmail's metadata daemon, whose socket has
// the mode set by its unit: with and without our drop-in.
func TestChatmailMetadataSocket(t *testing.T) {
	python := peer(t, "/usr/bin/python3", "python3") // which other users may run, too
	needRoot(t, "another user")
	dropIn, err := os.ReadFile("../../../../dist/chatmail/chatmail-metadata.service.d/mailturn.conf")
	if err != nil {
		t.Fatal(err)
	}
	const vmail, mailturn = "8", "65534" // the user and group mail stands for vmail, and nobody for mailturn
	for name, tt := range map[string]struct{ unit, want string }{
		"chatmail's unit":  {chatmailMetadata, "F"},
		"with our drop-in": {chatmailMetadata + string(dropIn), "Otoken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "chatmail") // not the test's own directory, which is for root alone
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			next, run, state, config := filepath.Join(dir, "metadata"), filepath.Join(dir, "run"), filepath.Join(dir, "state"), filepath.Join(dir, "maddy.conf")
			for _, err := range []error{
				os.Chmod(dir, 0o755), os.Link(binary, filepath.Join(dir, "mailturn")),
				os.Mkdir(next, 0o755), os.Chown(next, 8, 8),
				os.Mkdir(run, 0o755), os.Chown(run, 65534, 65534),
				os.Mkdir(state, 0o700), os.Chown(state, 65534, 65534),
				os.WriteFile(config, fmt.Appendf(nil, `
endpoint "dict" "dovecot" {
  path        = "run/dict.socket"
  group       = "mail"
  next        = "metadata/socket"
  turn_server = "127.0.0.1"
  turn_secret = %q
}
`, secret), 0o644),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			daemonOf := exec.Command("setpriv", "--reuid", vmail, "--regid", vmail, "--clear-groups",
				python, "-c", chatmailDict, filepath.Join(next, "socket"), setting(t, tt.unit, "UMask"))
			metadata, err := daemon.Start(t.Context(), daemonOf, "listening")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { metadata.Stop() })
			s := startCommand(t, exec.Command("setpriv", "--reuid", mailturn, "--regid", mailturn, "--groups", vmail,
				filepath.Join(dir, "mailturn"), "run", "--config", config, "--state-dir", state))
			conn, err := net.Dial("unix", filepath.Join(run, "dict.socket"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(startLimit))
			fmt.Fprint(conn, "H3\t2\t0\talice\tmetadata\nLpriv/0123456789abcdef/devicetoken\talice\n")
			answer, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.HasPrefix(answer, tt.want) {
				t.Errorf("got %q, %v, want %s", answer, err, tt.want)
			}
			if tt.want == "F" {
				s.waitFor(t, s.stderr, "permission denied")
			}
		})
	}
}
