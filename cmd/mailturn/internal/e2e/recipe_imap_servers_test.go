package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
	"github.com/mailturn/mailturn/framework/certs"
)

// askInFront runs mailturn with an imap endpoint that listens as documented, logs in, and returns what the client is told.
func askInFront(t *testing.T, endpoint, user string) string {
	t.Helper()
	p, stateDir, path := freePorts(t), t.TempDir(), filepath.Join(t.TempDir(), "maddy.conf")
	endpoint = strings.NewReplacer("0.0.0.0:993", fmt.Sprintf("127.0.0.1:%d", p.imaps), "0.0.0.0:143", fmt.Sprintf("127.0.0.1:%d", p.imap),
		"  upstream {", fmt.Sprintf("  turn_server = \"turn.example.org\"\n  turn_secret = %q\n  upstream {", secret)).Replace(endpoint)
	if err := os.WriteFile(path, []byte("hostname = \"localhost\"\n"+endpoint), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, stateDir, "--config", path)
	return imapSession(t, p.imaps, filepath.Join(stateDir, "selfsigned.crt"), nil, "a LOGIN "+user+" "+dovecot.Password, `b GETMETADATA "" `+turnEntry, "c LOGOUT")
}

// frontOfOther logs in through the documented endpoint to a server in memory.
func frontOfOther(t *testing.T, _ documents, b recipe.Block) {
	backend := startGoIMAP(t)
	if got := askInFront(t, replaced(t, b, "127.0.0.1:1143", backend.addr), backend.user()); !strings.Contains(got, turnEntry+" ") || !strings.Contains(got, "\nb OK") {
		t.Errorf("the client is told\n%s", got)
	}
	if got := askInFront(t, replaced(t, b, "127.0.0.1:1143", fmt.Sprintf("127.0.0.1:%d", freePorts(t).imap)), backend.user()); !strings.Contains(got, "BYE [UNAVAILABLE]") {
		t.Errorf("without the server, the client is told\n%s", got)
	}
	worked(t, b, "go-imap "+backend.version, "in front of an IMAP server: a login and GETMETADATA", "without the server")
}

// frontOfCyrus starts Cyrus with the documented line, and asks it for the relay through mailturn and without.
func frontOfCyrus(t *testing.T, d documents, b recipe.Block) {
	backend := startCyrus(t)
	endpoint := d.find(t, "docs/imap.md", "Other IMAP servers", `endpoint "imap"`)
	if got := askInFront(t, replaced(t, endpoint, "127.0.0.1:1143", backend.addr), backend.user()); !strings.Contains(got, turnEntry+" {") && !strings.Contains(got, turnEntry+` "`) {
		t.Errorf("the client is told\n%s", got)
	}
	conn, err := net.Dial("tcp", backend.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "a LOGIN %s %s\r\nb GETMETADATA \"\" %s\r\nc LOGOUT\r\n", backend.user(), dovecot.Password, turnEntry)
	conn.SetDeadline(time.Now().Add(startLimit))
	if alone, err := io.ReadAll(conn); err != nil || !strings.Contains(string(alone), "\na OK") || strings.Contains(string(alone), turnEntry+" \"turn.example.org") {
		t.Errorf("without mailturn, the client is told %v\n%s", err, alone)
	}
	worked(t, b, "Cyrus "+backend.version, "Cyrus with this line, behind mailturn: a login and GETMETADATA", "without mailturn")
}

// blockOfMaddy checks only that the block is part of the configuration with which TestIMAPServers runs maddy, which takes long to
// build.
func blockOfMaddy(t *testing.T, _ documents, b recipe.Block) {
	if text := maddyConfig(t, t.TempDir(), "127.0.0.1:1143"); !strings.Contains(text, "    insecure_auth yes\n") || !strings.Contains(b.Text, "    insecure_auth yes\n") {
		t.Errorf("the test of maddy does not use the block:\n%s", text)
	}
	worked(t, b, mailturnAlone, "not run by itself: maddy, in the table of servers above, runs with this block", "maddy alone, in that table")
}

// readTOML prints the address of a listener and whether it trusts loopback.
const readTOML = `
import sys, tomllib
listener = tomllib.loads(sys.stdin.read())["server"]["listener"]["imaptls"]
print(listener["bind"][0], listener["protocol"], listener["tls"]["implicit"], listener["proxy"]["trusted-networks"][0])
`

// listenerOfStalwart only parses the lines: Stalwart cannot be installed here.
func listenerOfStalwart(t *testing.T, _ documents, b recipe.Block) {
	python := peer(t, "/usr/bin/python3", "python3")
	parse := func(text string) string {
		cmd := exec.Command(python, "-c", readTOML)
		cmd.Stdin = strings.NewReader(text)
		out, _ := cmd.CombinedOutput()
		return strings.TrimSpace(string(out))
	}
	if got := parse(b.Text); got != "127.0.0.1:1993 imap True 127.0.0.0/8" {
		t.Errorf("got %s", got)
	}
	if got := parse(replaced(t, b, `"imap"`, "imap")); !strings.Contains(got, "TOMLDecodeError") {
		t.Errorf("without quotes: %s", got)
	}
	worked(t, b, "Python "+programVersion(t, python, "--version"), "not run: parsed as TOML, because Stalwart is in no package", "a missing quote")
}

// upstreamOfStalwart plays a server that takes a PROXY header and then TLS, and checks that it sees both, with the name that is
// required of its certificate.
func upstreamOfStalwart(t *testing.T, _ documents, b recipe.Block) {
	pair, _, err := certs.SelfSigned(t.TempDir(), []string{"mail.example.org"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go greetAfterProxyHeader(conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
		}
	}()
	ask := func(name string) string {
		block := replaced(t, b, "127.0.0.1:1993", listener.Addr().String(), "mail.example.org", name, "\n}", fmt.Sprintf("\n  tls_ca = %q\n}", pair.Cert))
		return askInFront(t, "endpoint \"imap\" \"imap\" {\n  listen = [\"tls://0.0.0.0:993\"]\n  "+block+"}\n", "alice")
	}
	if got := ask("mail.example.org"); !strings.HasPrefix(got, "* OK [CAPABILITY IMAP4rev1") || !strings.Contains(got, "after a header") {
		t.Errorf("the client is told\n%s", got)
	}
	if got := ask("other.example.org"); !strings.Contains(got, "BYE [UNAVAILABLE]") {
		t.Errorf("with another name, the client is told\n%s", got)
	}
	worked(t, b, mailturnAlone, "a server that requires a PROXY header and then TLS; Stalwart itself is not run", "a name that its certificate does not have")
}

// greetAfterProxyHeader reads a header of version 2 (16 bytes, with the length of the rest at the end), starts TLS, greets, and
// closes the connection after the first command.
func greetAfterProxyHeader(conn net.Conn, config *tls.Config) {
	defer conn.Close()
	var head [16]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil || !strings.HasPrefix(string(head[:]), "\r\n\r\n\x00\r\nQUIT\n\x21") {
		return
	}
	if _, err := io.CopyN(io.Discard, conn, int64(head[14])<<8|int64(head[15])); err != nil {
		return
	}
	secure := tls.Server(conn, config)
	fmt.Fprint(secure, "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] after a header\r\n")
	secure.Read(make([]byte, 1024))
}
