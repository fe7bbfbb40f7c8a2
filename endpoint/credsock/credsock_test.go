package credsock

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/module/moduletest"
	"github.com/mailturn/mailturn/framework/socket"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

var (
	secretA = credential.NewSecret([]byte("0123456789abcdef0123456789abcdef"))
	secretB = credential.NewSecret([]byte("fedcba9876543210fedcba9876543210"))
)

func testConfig(t testing.TB) Config {
	t.Helper()
	return Config{
		Name:   "credsock",
		Socket: socket.Config{Path: filepath.Join(moduletest.SocketDir(t), "turn.socket"), Mode: 0o600, UID: -1, GID: -1},
		Issuer: issuer.Config{
			Secrets: config.Value[[]credential.Secret]{V: []credential.Secret{secretA}},
			TTL:     config.Value[time.Duration]{V: 120 * time.Hour},
		},
	}
}

// ask does what chatmail's metadata daemon does: it connects and reads a line, within 5 seconds.
func ask(path string, secret credential.Secret) error {
	conn, err := net.DialTimeout("unix", path, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		return fmt.Errorf("got %q, %v after the line, want the end", rest, err)
	}
	username, password, _ := strings.Cut(strings.TrimSpace(line), ":")
	seconds, err := strconv.ParseInt(username, 10, 64)
	if err != nil {
		return fmt.Errorf("%q: user name is not a number", line)
	}
	if left := time.Until(time.Unix(seconds, 0)); left < 119*time.Hour || left > 120*time.Hour {
		return fmt.Errorf("%q is valid for %v", line, left)
	}
	if want := credential.Password(secret, username); password != want {
		return fmt.Errorf("%q: want the password %s", line, want)
	}
	return nil
}

func TestCredential(t *testing.T) {
	c := testConfig(t)
	moduletest.Start(t, New, c)
	if err := ask(c.Socket.Path, secretA); err != nil {
		t.Error(err)
	}
}

// TestEachReaderHasItsOwn checks that no two readers get the same credential, and that the relay of this process counts each reader
// separately.
func TestEachReaderHasItsOwn(t *testing.T) {
	c := testConfig(t)
	c.Issuer.Accounts = new(credential.Accounts)
	moduletest.Start(t, New, c)
	seen := make(map[string]bool)
	for range 100 {
		conn, err := net.Dial("unix", c.Socket.Path)
		if err != nil {
			t.Fatal(err)
		}
		line, err := io.ReadAll(conn)
		conn.Close()
		username, _, _ := strings.Cut(string(line), ":")
		if err != nil || seen[username] {
			t.Fatalf("%q was given out before, or %v", line, err)
		}
		seen[username] = true
		if account, ok := c.Issuer.Accounts.Account(username); !ok || account != username {
			t.Errorf("%s is of %q, %v, want it to be nobody else's", username, account, ok)
		}
	}
}

func TestThousandReaders(t *testing.T) {
	c := testConfig(t)
	moduletest.Start(t, New, c)
	// All connect first, so that they wait at the same time.
	var asking sync.WaitGroup
	begin := make(chan struct{})
	for range 1000 {
		asking.Go(func() {
			<-begin
			if err := ask(c.Socket.Path, secretA); err != nil {
				t.Error(err)
			}
		})
	}
	close(begin)
	asking.Wait()
}

// TestVanishingReaders checks that clients that disconnect, read nothing or send something do not keep others from being served.
func TestVanishingReaders(t *testing.T) {
	c := testConfig(t)
	moduletest.Start(t, New, c)
	for i := range 300 {
		conn, err := net.Dial("unix", c.Socket.Path)
		if err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0:
			conn.Close()
		case 1:
			defer conn.Close()
		case 2:
			defer conn.Close()
			io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n") // fails when the server was faster
		}
	}
	if err := ask(c.Socket.Path, secretA); err != nil {
		t.Error(err)
	}
}

func TestReload(t *testing.T) {
	c := testConfig(t)
	e := moduletest.Start(t, New, c)
	changed := c
	changed.Issuer.Secrets.V = []credential.Secret{secretB, secretA}
	changed.Socket.Mode = 0o660
	moduletest.Reload(t, e, changed)
	if err := ask(c.Socket.Path, secretB); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(c.Socket.Path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}

	moved := changed
	moved.Socket.Path += "2"
	moduletest.Reload(t, e, moved)
	if err := ask(moved.Socket.Path, secretB); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(c.Socket.Path); !os.IsNotExist(err) {
		t.Errorf("the old socket still exists: %v", err)
	}

	for name, spoil := range map[string]func(*Config){
		"no secret":    func(c *Config) { c.Issuer.Secrets.V = nil },
		"no directory": func(c *Config) { c.Socket.Path = "/nowhere/turn.socket" },
	} {
		bad := moved
		spoil(&bad)
		if _, err := e.Prepare(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
		if err := ask(moved.Socket.Path, secretB); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestShutdownRemovesSocket(t *testing.T) {
	c := testConfig(t)
	e := moduletest.Start(t, New, c)
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(c.Socket.Path); !os.IsNotExist(err) {
		t.Errorf("the socket still exists: %v", err)
	}
}

func TestDecode(t *testing.T) {
	file, diags := config.Parse("maddy.conf", []byte("endpoint \"credsock\" \"chatmail\" {\n  path = \"/run/x\"\n  turn_ttl = \"10h\"\n}"))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	c, diags := Decode(file.Endpoints[0])
	if len(diags) != 1 || diags[0].Summary != "Credentials are short-lived" {
		t.Errorf("got %v", diags)
	}
	relay := &issuer.Relay{Name: "turn", UDPPorts: []uint16{3478}, Secrets: []credential.Secret{secretA}}
	if diags := c.LinkTURN(relay); len(diags) > 0 || len(c.Issuer.Secrets.V) != 1 {
		t.Errorf("got %v, %v", diags, c.Issuer.Secrets)
	}
	relay.UDPPorts = []uint16{443}
	if diags := c.LinkTURN(relay); len(diags) != 1 || diags[0].Severity != hcl.DiagWarning || diags[0].Summary != "Relay is not on chatmail's port" {
		t.Errorf("got %v", diags)
	}
}

func BenchmarkCredential(b *testing.B) {
	c := testConfig(b)
	moduletest.Start(b, New, c)
	for b.Loop() {
		if err := ask(c.Socket.Path, secretA); err != nil {
			b.Fatal(err)
		}
	}
}
