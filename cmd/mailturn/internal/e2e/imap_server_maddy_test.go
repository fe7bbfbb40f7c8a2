package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// startMaddy builds maddy, of the version in the module beside this package, and serves with the documented block and with its
// mailboxes in SQLite. A mailbox is made when its user logs in, and any password is good.
func startMaddy(t *testing.T) imapServer {
	peer(t, "gcc", "gcc libc6-dev") // for SQLite
	dir := t.TempDir()
	program := filepath.Join(dir, "maddy")
	build := exec.Command("go", "build", "-o", program, "github.com/foxcpp/maddy/cmd/maddy")
	build.Dir = "maddy"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	addr, err := daemon.FreeAddr("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "maddy.conf")
	if err := os.WriteFile(config, []byte(maddyConfig(t, dir, addr)), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := daemon.Start(t.Context(), exec.Command(program, "--config", config, "run"), "imap: listening on ")
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, d)
	var mu sync.Mutex // lets one user log in for the first time at once: SQLite refuses others
	return imapServer{addr: addr, version: programVersion(t, program, "version"), unordered: true, user: func() string {
		mu.Lock()
		defer mu.Unlock()
		name := newUser()
		conn, err := dialPlain(addr)()
		if err == nil {
			defer conn.Close()
			_, err = loginTo(conn, name)
		}
		if err != nil {
			t.Error(err)
		}
		return name
	}}
}

// maddyConfig is a configuration with the documented block, which differs in the address and in what it refers to.
func maddyConfig(t *testing.T, dir, addr string) string {
	t.Helper()
	block := readDocuments(t).find(t, "docs/imap.md", "maddy", "imap tcp:")
	return fmt.Sprintf(`
hostname localhost
state_dir %[1]s/state
runtime_dir %[1]s/run
tls off
storage.imapsql mailboxes {
    driver sqlite3
    dsn imapsql.db?_txlock=immediate
}
%[2]s`, dir, replaced(t, block, "127.0.0.1:1143", addr, "&local_authdb", "dummy", "&local_mailboxes", "&mailboxes"))
}

// statusItems are what STATUS says of a mailbox.
var statusItems = regexp.MustCompile(`(\* STATUS \S+ \()([^)]*)`)

// inOrder returns a transcript of a server that says things in any order with the untagged responses to each command sorted, and the
// items of STATUS too: go-imap, version 1, takes them from maps.
func (s imapServer) inOrder(transcript []string) []string {
	if !s.unordered {
		return transcript
	}
	for i, response := range transcript {
		transcript[i] = statusItems.ReplaceAllStringFunc(response, func(status string) string {
			head, items, _ := strings.Cut(status, "(")
			words := strings.Fields(items)
			var pairs []string
			for pair := range slices.Chunk(words, 2) {
				pairs = append(pairs, strings.Join(pair, " "))
			}
			slices.Sort(pairs)
			return head + "(" + strings.Join(pairs, " ")
		})
	}
	for begin, i := 0, 0; i <= len(transcript); i++ {
		if i == len(transcript) || !strings.HasPrefix(transcript[i], "* ") {
			slices.Sort(transcript[begin:i])
			begin = i + 1
		}
	}
	return transcript
}
