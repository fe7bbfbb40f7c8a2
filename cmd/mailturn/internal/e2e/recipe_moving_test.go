package e2e

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// eturnalCounterpart relays with credentials as eturnal's secret makes them, over UDP, TCP and TLS.
func eturnalCounterpart(t *testing.T, _ documents, b recipe.Block) {
	p, dir := freePorts(t), t.TempDir()
	pair, _, err := certs.SelfSigned(dir, []string{"turn.example.org"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text := replaced(t, b, "*:3478", "127.0.0.1:"+strconv.Itoa(p.turn), "*:5349", "127.0.0.1:"+strconv.Itoa(p.turns),
		"/etc/eturnal/tls/crt.pem", pair.Cert, "/etc/eturnal/tls/key.pem", pair.Key, "long-and-cryptic", secret, `"203.0.113.4"`, "\"127.0.0.1\"\n  "+allowLoopback)
	path := filepath.Join(dir, "maddy.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, t.TempDir(), "--config", path)
	c := minted("127.0.0.1")
	c.username = "alice:" + c.username // as eturnalctl credentials makes it with a suffix
	c.password = mint(c.username)
	plain, secure := net.JoinHostPort("127.0.0.1", strconv.Itoa(p.turn)), net.JoinHostPort("127.0.0.1", strconv.Itoa(p.turns))
	for over, dial := range map[string]func() (net.Conn, error){
		"UDP": func() (net.Conn, error) { return net.Dial("udp", plain) },
		"TCP": func() (net.Conn, error) { return net.Dial("tcp", plain) },
		"TLS": func() (net.Conn, error) { return tls.Dial("tcp", secure, &tls.Config{InsecureSkipVerify: true}) },
	} {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := allocateOver(t, conn, c); err != nil {
			t.Errorf("over %s: %v", over, err)
		}
	}
	c.password = "wrong"
	conn, err := net.Dial("udp", plain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := allocateOver(t, conn, c); turnclient.Code(err) != stun.CodeUnauthenticated {
		t.Errorf("with a wrong password: got %v, want 401", err)
	}
	worked(t, b, mailturnAlone, "counterpart of eturnal's configuration: credentials over UDP, TCP and TLS", "wrong password")
}

// otherServer is a unit that has the relay's port, as the documentation supposes of coturn and eturnal.
const otherServer = `[Unit]
Description=another server on port 3478
[Service]
Type=notify
ExecStart=/usr/local/bin/mailturn run --config /etc/other.conf --state-dir /run
[Install]
WantedBy=multi-user.target
`

// replaceServer returns a test that stops a unit, which has the port, and starts mailturn in its place.
func replaceServer(unit string) func(*testing.T, documents, recipe.Block) {
	return func(t *testing.T, d documents, b recipe.Block) {
		m := installed(t, d)
		const relay = "endpoint \"turn\" \"turn\" {\n  listen = \"udp://127.0.0.1:3478\"\n  realm = \"example.org\"\n}\ncontrol {\n  enable = false\n}\n"
		m.write(t, "/etc/other.conf", relay)
		m.write(t, "/etc/systemd/system/"+unit+".service", otherServer)
		m.run(t, "install -m 0640 -g mailturn /etc/other.conf "+configuration+"\nsystemctl daemon-reload\nsystemctl enable --now "+unit)
		m.fails(t, without(t, b.Text, unit), "another program uses this port")
		m.run(t, b.Text+"systemctl is-active mailturn\n! systemctl is-enabled "+unit)
		worked(t, b, m.systemdVersion(t), "mailturn started in place of another server that has its port", "without the line that stops it")
	}
}

// mediaServer allows the documented peer, and no other one of its network.
func mediaServer(t *testing.T, _ documents, b recipe.Block) {
	p := freePorts(t)
	start(t, t.TempDir(), "--config", configure(t, p, b.Text, ""))
	conn, err := net.Dial("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.turn)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := allocateOver(t, conn, minted("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	if err := c.CreatePermission(ctx, netip.MustParseAddr("10.0.0.8")); err != nil {
		t.Errorf("the media server: %v", err)
	}
	if err := c.CreatePermission(ctx, netip.MustParseAddr("10.0.0.9")); turnclient.Code(err) != stun.CodeForbidden {
		t.Errorf("its neighbour: got %v, want 403", err)
	}
	worked(t, b, mailturnAlone, "a peer in a private network is allowed", "another peer of that network")
}

// allocateOver makes an allocation with the credential over a connection, which is closed after the test.
func allocateOver(t *testing.T, conn net.Conn, c credential) (*turnclient.Client, error) {
	t.Helper()
	client := turnclient.New(turnclient.Config{Conn: conn, Stream: conn.LocalAddr().Network() == "tcp", Username: c.username, Password: c.password})
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	if _, err := client.Challenge(ctx); err != nil {
		return nil, err
	}
	_, err := client.Allocate(ctx)
	return client, err
}
