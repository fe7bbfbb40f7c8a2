package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
)

// socketDir returns a short directory that others may enter, for a socket, and the group that Dovecot runs in here.
func socketDir(t *testing.T) (dir, group string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "door")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		return dir, "nogroup" // that of nobody
	}
	out, err := exec.Command("id", "-gn").Output()
	if err != nil {
		t.Fatal(err)
	}
	return dir, strings.TrimSpace(string(out))
}

// startDoor runs the block's endpoint with its socket in a directory of the test, for the group of Dovecot here, and returns the
// socket. edit changes the block, unless it is nil.
func startDoor(t *testing.T, b recipe.Block, socket string, edit func(string) string) (path string) {
	t.Helper()
	dir, group := socketDir(t)
	path = filepath.Join(dir, filepath.Base(socket))
	block := replaced(t, b, socket, path, `"vmail"`, strconv.Quote(group))
	if edit != nil {
		block = edit(block)
	}
	config := configure(t, freePorts(t), "", "")
	configureDoor(t, config, block)
	start(t, t.TempDir(), "--config", config)
	return path
}

// credsockDoor asks the socket with Python, as chatmail's metadata daemon does, whose user is in the group and is not mailturn's.
func credsockDoor(t *testing.T, _ documents, b recipe.Block) {
	python := peer(t, "/usr/bin/python3", "python3") // which other users may run, too
	needRoot(t, "another user")
	reader, err := os.ReadFile("testdata/credsock_reader.py")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(edit func(string) string) (string, error) {
		path := startDoor(t, b, "/run/mailturn/turn.socket", edit)
		out, err := exec.Command("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", python, "-c", string(reader), path, "1").CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	line, err := ask(nil)
	if name, password, _ := strings.Cut(line, ":"); err != nil || password != mint(name) {
		t.Errorf("the daemon got %q, %v", line, err)
	}
	if line, err := ask(func(block string) string { return without(t, block, "group") }); err == nil || !strings.Contains(line, "PermissionError") {
		t.Errorf("without group the daemon got %q, %v", line, err)
	}
	worked(t, b, "Python "+programVersion(t, python, "--version"), `endpoint "credsock": asked as chatmail's metadata daemon does, by another user`, "without group")
}

// dictDoor has Dovecot, whose user is not mailturn's, ask the endpoint.
func dictDoor(t *testing.T, d documents, b recipe.Block) {
	version := "Dovecot " + programVersion(t, peer(t, "dovecot", "dovecot-imapd"), "--version")
	needRoot(t, "another user")
	if got := askDovecot(t, nil, dictSettings(t, d, "2.3", startDoor(t, b, dictSocket, nil))); !strings.Contains(got, turnEntry+" {") {
		t.Errorf("Dovecot answers %q", got)
	}
	path := startDoor(t, b, dictSocket, func(block string) string { return without(t, block, "group") })
	if got := askDovecot(t, nil, dictSettings(t, d, "2.3", path)); strings.Contains(got, turnEntry+" {") {
		t.Errorf("without group Dovecot answers %q", got)
	}
	worked(t, b, version, `endpoint "dict": asked by Dovecot, which runs as another user`, "without group")
}

// dictSocket is what the documentation calls the socket for Dovecot.
const dictSocket = "/run/mailturn/dict.socket"

// dictSettings are the documented ones for a version of Dovecot, for a socket at another path.
func dictSettings(t *testing.T, d documents, version, path string) string {
	t.Helper()
	first := map[string]string{"2.3": "mail_attribute_dict", "2.4": "mail_attribute {"}[version]
	return replaced(t, d.find(t, "docs/credentials.md", "Dovecot without a proxy", first), dictSocket, path)
}

// askDovecot starts a Dovecot with further settings and nothing in front, and asks it for the relay.
func askDovecot(t *testing.T, root *chroot.Root, settings string) (answer string) {
	t.Helper()
	server := startDovecot(t, dovecot.Options{Root: root, Settings: settings})
	return strings.Join(direct(server).record(t, loggedIn(func(w *scriptWriter) {
		w.command(`GETMETADATA "" (` + turnEntry + `)`)
	})), "")
}

// dovecotDict adds the lines for a version to a Dovecot without anything in front, and asks it for the relay.
func dovecotDict(version string) func(t *testing.T, d documents, b recipe.Block) {
	return func(t *testing.T, d documents, b recipe.Block) {
		path := startDoor(t, d.find(t, "docs/credentials.md", b.Heading, `endpoint "dict"`), dictSocket, nil)
		eachDovecot(t, func(t *testing.T, installed string, root *chroot.Root) {
			if installed != version {
				return
			}
			settings := dictSettings(t, d, version, path)
			if got := askDovecot(t, root, settings); !strings.Contains(got, turnEntry+" {") {
				t.Errorf("Dovecot answers %q", got)
			}
			if got := askDovecot(t, root, without(t, settings, "imap_metadata")); strings.Contains(got, turnEntry+" {") {
				t.Errorf("without imap_metadata Dovecot answers %q", got)
			}
			worked(t, b, dovecotVersion(t, root), "dictionary of Dovecot "+version+": GETMETADATA", "without imap_metadata")
		})
	}
}

// accountsBlock logs in with names that the block distinguishes or joins, and checks that the relay counts them so.
func accountsBlock(t *testing.T, _ documents, b recipe.Block) {
	counted := func(block string) map[string]string {
		t.Helper()
		stateDir, p := t.TempDir(), freePorts(t)
		config := configure(t, p, "", "")
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		const users, more = "users = {\n", "      \"alice\" = \"wonderland\"\n      \"alice+x@example.org\" = \"wonderland\"\n"
		if err := os.WriteFile(config, []byte(block+strings.Replace(string(text), users, users+more, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		s := start(t, stateDir, "--config", config)
		accounts := make(map[string]string)
		for _, user := range []string{"alice", "alice+x@example.org"} {
			c, _ := discover(t, p, stateDir, user, "wonderland")
			if code := allocate(t, p, c); code != 0 {
				t.Fatalf("%s's Allocate is answered %d", user, code)
			}
			line := s.waitFor(t, s.stderr, "allocation.username="+c.username+" allocation.account=")
			_, rest, _ := strings.Cut(line, "allocation.account=")
			accounts[user], _, _ = strings.Cut(rest, " ")
		}
		return accounts
	}
	for user, want := range map[string]string{"alice": "alice@example.org", "alice+x@example.org": "alice+x@example.org"} {
		if got := counted(b.Text)[user]; got != want {
			t.Errorf("%s counts as %q, want %q", user, got, want)
		}
	}
	for user, want := range map[string]string{"alice": "alice", "alice+x@example.org": "alice@example.org"} {
		if got := counted("")[user]; got != want {
			t.Errorf("without the block %s counts as %q, want %q", user, got, want)
		}
	}
	worked(t, b, mailturnAlone, "accounts: whom the relay's log counts who have logged in by two names", "without the block")
}
