package imap

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
	"github.com/mailturn/mailturn/endpoint/imap/upstream"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/module/moduletest"
	"github.com/mailturn/mailturn/imapext/metadata"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// TestReloadSessions checks that running sessions keep their configuration and server, that later sessions use the new ones, and
// that both are given the new annotations.
func TestReloadSessions(t *testing.T) {
	oldServer, newServer := listenTCP(t), listenTCP(t)
	serve := func(name string) script {
		return func(w *wire) {
			fmt.Fprintf(w.conn, "* PREAUTH %s\r\n", name)
			for {
				tag, _, found := strings.Cut(w.readLine(), " ")
				if !found {
					return
				}
				fmt.Fprintf(w.conn, "%s OK %s\r\n", tag, name)
			}
		}
	}
	serveScript(t, oldServer, serve("old"))
	serveScript(t, newServer, serve("new"))
	config := testConfig(t)
	config.Upstream = upstreamAt("tcp", oldServer)
	e := start(t, config)
	entries := func(w *wire) string {
		t.Helper()
		w.send("m GETMETADATA \"\" (/shared/comment /shared/vendor/deltachat/turn)\r\n")
		lines := w.until("m")
		return strings.Join(lines[:len(lines)-1], "\n")
	}
	running := newWire(t, dialTCP(t, e, 1))
	running.expect(`\* PREAUTH old`)
	if got := entries(running); !strings.Contains(got, `"a test"`) || !strings.Contains(got, "turn.example.org:3478:") {
		t.Fatalf("before: %q", got)
	}

	changed := config
	changed.Upstream = upstreamAt("tcp", newServer)
	changed.Entries = []metadata.Entry{{Name: "/shared/comment", Value: metadata.String("another test")}}
	changed.TURN.Server.V = "turn2.example.org"
	changed.TURN.Secrets.V = []credential.Secret{credential.NewSecret([]byte("another secret"))}
	moduletest.Reload(t, e, changed)

	fresh := newWire(t, dialTCP(t, e, 1))
	fresh.expect(`\* PREAUTH new`)
	running.send("a NOOP\r\n")
	running.expect(`a OK old`)
	for name, w := range map[string]*wire{"running": running, "fresh": fresh} {
		got := entries(w)
		_, value, _ := strings.Cut(got, `turn2.example.org:3478:`)
		username, password, _ := strings.Cut(strings.TrimRight(value, `")`), ":")
		if !strings.Contains(got, `"another test"`) || password != credential.Password(changed.TURN.Secrets.V[0], username) {
			t.Errorf("%s session got %q after the change", name, got)
		}
	}
}

// TestReloadListeners checks that a socket that stays is the same one and loses no client, that a new one is opened, and that a
// removed one is closed.
func TestReloadListeners(t *testing.T) {
	port := func() uint16 {
		listener := listenTCP(t)
		defer listener.Close()
		return uint16(listener.Addr().(*net.TCPAddr).Port)
	}
	stays, turns, goes, comes := port(), port(), port(), port()
	addr := func(scheme string, port uint16) listen.Addr {
		return listen.Addr{Scheme: scheme, Host: "127.0.0.1", Port: port}
	}
	config := testConfig(t)
	config.Listen = []listen.Addr{addr("tls", stays), addr("tcp", turns), addr("tcp", goes)}
	e := start(t, config)
	socket := e.listeners[0].Listener
	running := newWire(t, dialTCP(t, e, 2))
	running.expect(`\* OK`)
	running.login()

	changed := config
	changed.Listen = []listen.Addr{addr("tcp", comes), addr("tls", stays), addr("tls", turns)}
	moduletest.Reload(t, e, changed)
	if e.listeners[1].Listener != socket {
		t.Error("the socket that stays was opened again")
	}
	dialPort := func(port uint16) (net.Conn, error) {
		return net.Dial("tcp", addr("", port).HostPort())
	}
	if conn, err := dialPort(goes); err == nil {
		conn.Close()
		t.Error("the removed address still accepts")
	}
	running.send("a NOOP\r\n")
	running.expect(`a OK`)
	conn, err := dialPort(comes)
	if err != nil {
		t.Fatal(err)
	}
	newWire(t, conn).expect(`\* OK`)
	if conn, err = dialPort(turns); err != nil {
		t.Fatal(err)
	}
	w := newWire(t, conn)
	w.send("a CAPABILITY\r\n")
	w.expect(`\* BYE This port requires TLS`) // where it was plain before

	moduletest.Reload(t, e, config) // and back
	if conn, err = dialPort(turns); err != nil {
		t.Fatal(err)
	}
	newWire(t, conn).expect(`\* OK`)
	if _, err = dialPort(comes); err == nil {
		t.Error("the address that was added and removed still accepts")
	}
}

// TestReloadFails checks that a configuration that cannot be put in force changes nothing and leaves nothing open.
func TestReloadFails(t *testing.T) {
	taken := listenTCP(t)
	takenPort := uint16(taken.Addr().(*net.TCPAddr).Port)
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"certificate", func(c *Config) { c.TLS = []certs.Pair{{Cert: "absent.pem", Key: "absent.pem"}} }, "absent.pem"},
		{"secret", func(c *Config) { c.TURN.Secrets.V = nil }, "no secret"},
		{"port in use", func(c *Config) {
			c.Listen = append(slices.Clone(c.Listen), listen.Addr{Scheme: "tcp", Host: "127.0.0.1", Port: takenPort})
		}, "another program uses this port"},
		{"authorities of the server", func(c *Config) {
			c.Upstream = &upstream.Config{Addresses: []upstream.Address{{Scheme: "tls", Address: "127.0.0.1:993"}}, CAFile: "absent.pem"}
		}, "absent.pem"},
		{"password", func(c *Config) {
			c.Users = map[string]credential.Secret{"alice": credential.NewSecret([]byte("$6$not$known"))}
		}, "alice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := testConfig(t)
			e := start(t, config)
			before, addrs := e.present, e.Addrs()
			changed := config
			changed.Entries = nil
			free := listenTCP(t) // a port that the new configuration gets before it fails
			freeAddr := free.Addr().String()
			free.Close()
			changed.Listen = append(slices.Clone(config.Listen), listen.Addr{Scheme: "tcp", Host: "127.0.0.1", Port: uint16(free.Addr().(*net.TCPAddr).Port)})
			tt.change(&changed)
			if _, err := e.Prepare(changed); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if e.present != before || !slices.Equal(addrs, e.Addrs()) {
				t.Error("something has changed")
			}
			if conn, err := net.Dial("tcp", freeAddr); err == nil {
				conn.Close()
				t.Error("a socket of the new configuration is left open")
			}
			w := dialTLS(t, e)
			w.login()
			w.send("a GETMETADATA \"\" /shared/comment\r\n")
			w.expect(`\* METADATA "" \(/shared/comment "a test"\)`)
		})
	}
}

// TestDiscard checks that a configuration that was prepared and discarded changes nothing and leaves nothing open.
func TestDiscard(t *testing.T) {
	config := testConfig(t)
	e := start(t, config)
	before := e.present
	free := listenTCP(t)
	addr := free.Addr().String()
	free.Close()
	changed := config
	changed.Entries = nil
	changed.Listen = append(slices.Clone(config.Listen), listen.Addr{Scheme: "tcp", Host: "127.0.0.1", Port: uint16(free.Addr().(*net.TCPAddr).Port)})
	change, err := e.Prepare(changed)
	if err != nil {
		t.Fatal(err)
	}
	change.Discard()
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("the new socket is left open")
	}
	if e.present != before {
		t.Error("the configuration has changed")
	}
	w := dialTLS(t, e)
	w.login()
	w.send("a GETMETADATA \"\" /shared/comment\r\n")
	w.expect(`\* METADATA "" \(/shared/comment "a test"\)`)
	moduletest.Reload(t, e, changed)
}

// TestReloadOverlap checks that the error of replacing an address with one that overlaps it says what to do.
func TestReloadOverlap(t *testing.T) {
	listener := listenTCP(t)
	port := uint16(listener.Addr().(*net.TCPAddr).Port)
	listener.Close()
	config := testConfig(t)
	config.Listen = []listen.Addr{{Scheme: "tcp", Host: "127.0.0.1", Port: port}}
	e := start(t, config)
	changed := config
	changed.Listen = []listen.Addr{{Scheme: "tcp", Host: "0.0.0.0", Port: port}}
	if _, err := e.Prepare(changed); err == nil || !strings.Contains(err.Error(), "restart instead") {
		t.Errorf("got %v", err)
	}
}

// TestReloadEmbedded checks that mailboxes stay with their users, and that the server ends after its last session.
func TestReloadEmbedded(t *testing.T) {
	config := testConfig(t)
	e := start(t, config)
	alice := dialPlain(t, e)
	alice.login()
	alice.send("append APPEND INBOX {17+}\r\nSubject: kept\r\n\r\n\r\n")
	alice.until("append")
	witness, err := e.present.backend.Dial(t.Context(), origin.Origin{}) // ends when the server does
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for err := error(patient.ErrNothingYet); errors.Is(err, patient.ErrNothingYet) || err == nil; {
			witness.Await(0)
			_, err = witness.Read(make([]byte, 512))
		}
	}()

	changed := config
	changed.Users = map[string]credential.Secret{
		"alice": credential.NewSecret([]byte("looking-glass")),
		"carol": credential.NewSecret([]byte("singer")),
	}
	moduletest.Reload(t, e, changed)
	w := dialPlain(t, e)
	w.send("a LOGIN bob builder\r\n")
	w.expect(`a NO`)
	w.send("b LOGIN carol singer\r\n")
	w.expect(`b OK`)
	again := dialPlain(t, e)
	again.send("login LOGIN alice looking-glass\r\n")
	again.expect(`login OK`)
	again.send("a STATUS INBOX (MESSAGES)\r\n")
	again.expect(`\* STATUS "?INBOX"? \(MESSAGES 1\)`)

	alice.send("a NOOP\r\n")
	alice.expect(`a OK`)
	select {
	case <-stopped:
		t.Error("the server of a running session was stopped")
	default:
	}
	alice.conn.Close()
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		t.Error("the server still runs although nobody uses it")
	}
	again.send("b NOOP\r\n")
	again.until("b")
}

// TestReloadCertificate checks that a certificate under the same name is read again, for new handshakes.
func TestReloadCertificate(t *testing.T) {
	config := testConfig(t)
	e := start(t, config)
	oldTLS := clientTLS(t, e)
	dialTLS(t, e)
	_, pair := testCertificate(t)
	for from, to := range map[string]string{pair.Cert: config.TLS[0].Cert, pair.Key: config.TLS[0].Key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	moduletest.Reload(t, e, config)
	dialTLS(t, e) // trusts the new one
	if err := tlsHandshake(t, e, oldTLS); err == nil {
		t.Error("the old certificate is still presented")
	}
}

// TestReloadUnderLoad checks that during reloads, while clients connect, log in and ask, every answer is that of one of the two
// configurations, and no connection is refused or lost.
func TestReloadUnderLoad(t *testing.T) {
	config := testConfig(t)
	other := config
	other.TURN.Server.V = "turn2.example.org"
	other.TURN.Secrets.V = []credential.Secret{credential.NewSecret([]byte("another secret"))}
	secrets := map[string]credential.Secret{
		config.TURN.Server.V: config.TURN.Secrets.V[0],
		other.TURN.Server.V:  other.TURN.Secrets.V[0],
	}
	e := start(t, config)
	addr := e.Addrs()[1].String()
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				fmt.Fprint(conn, "a LOGIN alice wonderland\r\nb GETMETADATA \"\" /shared/vendor/deltachat/turn\r\n")
				w := &wire{t, conn, newReader(conn)}
				var value string
				for line := ""; !strings.HasPrefix(line, "b OK"); {
					if line = w.readLine(); !strings.HasSuffix(line, "\n") {
						t.Errorf("connection ended: %s", line)
						break
					}
					if v, found := strings.CutPrefix(line, `* METADATA "" (/shared/vendor/deltachat/turn "`); found {
						value = strings.TrimSuffix(v, "\")\r\n")
					}
				}
				conn.Close()
				fields := strings.SplitN(value, ":", 4)
				if len(fields) != 4 || fields[3] != credential.Password(secrets[fields[0]], fields[2]) {
					t.Errorf("answer is %q", value)
					return
				}
			}
		})
	}
	for i := range 30 {
		moduletest.Reload(t, e, []Config{other, config}[i%2])
	}
	close(done)
	clients.Wait()
}
