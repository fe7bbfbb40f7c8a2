package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
)

// haproxyInFront connects to IMAP and to the relay through HAProxy, and checks that mailturn sees the client's address.
func haproxyInFront(t *testing.T, _ documents, b recipe.Block) {
	haproxy := peer(t, "haproxy", "haproxy")
	const client, trusted = "127.0.0.2", `proxy_protocol = ["127.0.0.1/32"]`
	p, front := freePorts(t), freePorts(t)
	state := t.TempDir()
	s := start(t, state, "--config", configure(t, p, allowLoopback+"\n"+trusted, trusted))
	balance := func(text string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "haproxy.cfg")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := daemon.Start(t.Context(), exec.Command(haproxy, "-db", "-V", "-f", path), "Available polling systems")
		if err == nil {
			t.Cleanup(func() { d.Stop() })
			err = d.Listening(t.Context(), fmt.Sprintf("127.0.0.1:%d", front.turn))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	addresses := []string{
		"0.0.0.0:993", fmt.Sprintf("127.0.0.1:%d", front.imaps), "10.0.0.7:993", fmt.Sprintf("127.0.0.1:%d", p.imaps),
		"0.0.0.0:3478", fmt.Sprintf("127.0.0.1:%d", front.turn), "10.0.0.7:3478", fmt.Sprintf("127.0.0.1:%d", p.turn),
	}
	balance(replaced(t, b, addresses...))
	alice, _ := discover(t, front, state, "alice@example.org", "wonderland")
	uclient(t, alice, front.turn, "-y", "-m", "2", "-n", "5", "-t").wantAllBack(t)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
	for _, port := range []int{front.imaps, front.turn} {
		conn, err := dialer.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	s.waitFor(t, s.stderr, "client="+client+":")

	front = freePorts(t)
	addresses[1], addresses[5] = fmt.Sprintf("127.0.0.1:%d", front.imaps), fmt.Sprintf("127.0.0.1:%d", front.turn)
	balance(strings.ReplaceAll(replaced(t, b, addresses...), " send-proxy-v2", ""))
	if result := uclient(t, alice, front.turn, "-y", "-m", "2", "-n", "5", "-t"); result.received != 0 {
		t.Errorf("without send-proxy-v2 the relay answers:\n%s", result.output)
	}
	s.waitFor(t, s.stderr, "PROXY")
	worked(t, b, "HAProxy "+programVersion(t, haproxy, "-v"), "HAProxy in front: GETMETADATA, a relayed call over TCP, and the client's address in the log", "without send-proxy-v2")
}
