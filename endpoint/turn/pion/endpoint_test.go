package pion

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/pion/logging"
	pionclient "github.com/pion/turn/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// patience is the time limit for what two processes do together.
const patience = 30 * time.Second

// Commands of the test binary, which TestMain runs instead of the tests.
const (
	commandEngine = "turn-engine"
	commandPanic  = "turn-engine-that-panics-once" // FILE, which it makes the first time
	commandSpin   = "turn-engine-that-does-not-end"
	commandParent = "parent" // PORT, on which it serves until it is killed
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case commandEngine:
			exit(Main(os.Stdin, os.Stdout))
		case commandPanic:
			if _, err := os.Stat(os.Args[2]); err != nil {
				exit(os.WriteFile(os.Args[2], nil, 0o600), panicOnceReady())
			}
			exit(Main(os.Stdin, os.Stdout))
		case commandSpin:
			reader, writer := io.Pipe()
			go func() { _, _ = io.Copy(writer, os.Stdin) }() // but not its end
			exit(Main(reader, os.Stdout))
		case commandParent:
			exit(runParent(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

func exit(errs ...error) {
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runParent serves on a port until the process is killed, and reports when it serves.
func runParent(port string) error {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1", Port: uint16(number)})
	e, err := New(c, command(commandEngine), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := e.Start(context.Background()); err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

// panicOnceReady panics on a separate goroutine, as pion does, after the endpoint has been told that the engine serves.
func panicOnceReady() error {
	reader, writer := io.Pipe()
	go func() {
		lines := bufio.NewScanner(reader)
		for lines.Scan() {
			fmt.Println(lines.Text())
			if strings.Contains(lines.Text(), `"ready"`) {
				panic("the fault of the test")
			}
		}
	}()
	return Main(os.Stdin, writer)
}

func command(args ...string) []string { return append([]string{os.Args[0]}, args...) }

var secret = credential.NewSecret([]byte("correct horse battery staple"))

// loopback is a configuration whose peers may be on loopback.
func loopback(listens ...listen.Addr) turn.Config {
	c := turn.Config{
		Name: "turn", Engine: turn.Pion, Listen: listens, ListenRanges: make([]hcl.Range, len(listens)), Realm: "example.org",
		Secrets: []credential.Secret{secret}, RelayIP: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, MaxStreams: 100,
	}
	c.RelayPorts.V = turn.PortRange{Min: 49152, Max: 65535}
	c.Peers.Allow.V = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.UserQuota, c.TotalQuota, c.ExpiredGrace = 40, 1000, time.Hour
	return c
}

// logs collects log lines, and wakes goroutines that wait for more.
type logs struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// wait waits until the log contains text that many times.
func (l *logs) wait(t *testing.T, text string, times int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		l.mu.Lock()
		found := strings.Count(l.text.String(), text)
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if found >= times {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("no %q in the log:\n%s", text, l)
		}
	}
}

// start starts an endpoint with a command of the test binary, and returns the addresses on which it listens.
func start(t *testing.T, c turn.Config, args ...string) (*Endpoint, []string, *logs) {
	t.Helper()
	log := &logs{}
	e, err := New(c, command(args...), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	var addresses []string
	for i, a := range c.Listen {
		if a.Scheme == "udp" {
			conn, err := net.FilePacketConn(e.sockets[i])
			if err != nil {
				t.Fatal(err)
			}
			addresses = append(addresses, conn.LocalAddr().String())
			_ = conn.Close()
		} else {
			listener, err := net.FileListener(e.sockets[i])
			if err != nil {
				t.Fatal(err)
			}
			addresses = append(addresses, listener.Addr().String())
			_ = listener.Close()
		}
	}
	return e, addresses, log
}

// allocate requests an allocation as the user of c.
func allocate(t *testing.T, network, address string, c credential.Credential) (net.PacketConn, error) {
	t.Helper()
	var conn net.PacketConn
	var err error
	if network == "udp" {
		conn, err = net.ListenPacket("udp4", "127.0.0.1:0")
	} else {
		var stream net.Conn
		if stream, err = net.Dial("tcp4", address); err == nil {
			conn = pionclient.NewSTUNConn(stream)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client, err := pionclient.NewClient(&pionclient.ClientConfig{
		TURNServerAddr: address, STUNServerAddr: address, Conn: conn, Username: c.Username, Password: c.Password, LoggerFactory: logging.NewDefaultLoggerFactory(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	return client.Allocate()
}

func issue(s credential.Secret) credential.Credential {
	return credential.Issuer{Secret: s, TTL: time.Hour}.Issue(time.Now())
}

// TestServes checks that the process relays packets over each transport, and that it has ended afterwards.
func TestServes(t *testing.T) {
	e, addresses, log := start(t, loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"}, listen.Addr{Scheme: "tcp", Host: "127.0.0.1"}), commandEngine)
	for i, network := range []string{"udp", "tcp"} {
		relayed, err := allocate(t, network, addresses[i], issue(secret))
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		buf := make([]byte, 100)
		if _, err := relayed.WriteTo([]byte("there"), peer.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		n, from, err := peer.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "there" {
			t.Fatalf("the peer got %q, %v", buf[:n], err)
		}
		if _, err := peer.WriteTo([]byte("and back"), from); err != nil {
			t.Fatal(err)
		}
		if n, _, err := relayed.ReadFrom(buf); err != nil || string(buf[:n]) != "and back" {
			t.Errorf("the client got %q, %v", buf[:n], err)
		}
		if _, err := allocate(t, network, addresses[i], issue(credential.NewSecret([]byte("another secret of some length")))); err == nil {
			t.Errorf("%s: a wrong password is accepted", network)
		}
	}
	for _, want := range []string{"msg=listening listen=tcp://", "rows=\"T03 T06 ", "msg=relay relay_ip=127.0.0.1"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, log)
		}
	}
	if err := e.Health(); err != nil {
		t.Error(err)
	}
	if err := testutil.CollectAndCompare(e.Collector(), strings.NewReader(`
# HELP mailturn_turn_engine_restarts_total Restarts of the process of engine = "pion".
# TYPE mailturn_turn_engine_restarts_total counter
mailturn_turn_engine_restarts_total 0
# HELP mailturn_turn_engine_up 1 while the process of engine = "pion" serves, else 0.
# TYPE mailturn_turn_engine_up gauge
mailturn_turn_engine_up 1
`)); err != nil {
		t.Error(err)
	}
}

// TestPanic checks that after a panic of the engine, the endpoint logs the reason, and serves again on the same sockets.
func TestPanic(t *testing.T) {
	e, addresses, log := start(t, loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"}), commandPanic, filepath.Join(t.TempDir(), "once"))
	log.wait(t, "TURN engine serves again", 1)
	if _, err := allocate(t, "udp", addresses[0], issue(secret)); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "panic: the fault of the test") || !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the log does not have the panic:\n%s", log)
	}
	if n := e.restarts.Load(); n != 1 || !e.up.Load() {
		t.Errorf("%d restarts, up %v, want one, and up", n, e.up.Load())
	}
}

// TestReload reloads another secret, and then the same configuration.
func TestReload(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	e, addresses, _ := start(t, c, commandEngine)
	reload := func(c turn.Config) {
		change, err := e.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		change.Commit()
	}
	next := c
	other := credential.NewSecret([]byte("the secret of the following week"))
	next.Secrets = []credential.Secret{other}
	reload(next)
	if _, err := allocate(t, "udp", addresses[0], issue(other)); err != nil {
		t.Errorf("the new secret: %v", err)
	}
	if _, err := allocate(t, "udp", addresses[0], issue(secret)); err == nil {
		t.Error("the old secret is still accepted")
	}
	reload(next)
	next.Range.Start.Line = 7 // the block has moved in the file
	next.DrainTimeout = time.Hour
	reload(next)
	if _, err := allocate(t, "udp", addresses[0], issue(other)); err != nil {
		t.Error(err)
	}
	if n := e.restarts.Load(); n != 1 {
		t.Errorf("%d restarts, want one", n)
	}
}

// TestStartFails checks that the reason is that of the engine, and that nothing is left running.
func TestStartFails(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	c.RelayBind = []netip.Addr{netip.MustParseAddr("203.0.113.9")}
	e, err := New(c, command(commandEngine), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "relay_bind") || !strings.Contains(err.Error(), "does not have the address") {
		t.Errorf("got %v, want an error about relay_bind", err)
	}
	if e.sockets != nil {
		t.Errorf("%d sockets are left open", len(e.sockets))
	}
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestEndlessEngine checks that an engine that does not end is killed.
func TestEndlessEngine(t *testing.T) {
	log := &logs{}
	e, err := New(loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"}), command(commandSpin), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < stopLimit {
		t.Errorf("it ended after %v", took)
	}
}

// TestEndsWithItsParent kills the process that has started an engine, and checks that the engine releases the port.
func TestEndsWithItsParent(t *testing.T) {
	free, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.LocalAddr().String()
	_ = free.Close()
	_, port, _ := net.SplitHostPort(address)
	parent := exec.Command(os.Args[0], commandParent, port)
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the parent says %q, %v", line, err)
	}
	if conn, err := net.ListenPacket("udp4", address); err == nil {
		_ = conn.Close()
		t.Fatal("nobody listens")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.ListenPacket("udp4", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the engine still runs: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestConfigurationReachesTheEngine checks that every setting that pion supports reaches the engine.
func TestConfigurationReachesTheEngine(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Port: 3478}, listen.Addr{Scheme: "tls", Host: "::1", Port: 5349})
	c.TLS = []certs.Pair{{Cert: "/cert", Key: "/key"}}
	c.ProxyProtocol = listen.Networks{netip.MustParsePrefix("10.0.0.5/32")}
	c.Secrets = append(c.Secrets, credential.NewSecret([]byte{0, 0xFF}))
	c.Users = map[string]credential.Secret{"alice": credential.NewSecret([]byte("wonderland"))}
	c.RelayBind = []netip.Addr{netip.MustParseAddr("10.0.0.7")}
	c.Peers.Deny = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	c.SourceQuota, c.MaxCredentialLifetime.V = 7, time.Hour
	text, err := encode(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(json.NewDecoder(bytes.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	again, err := encode(got)
	if err != nil || !bytes.Equal(again, text) {
		t.Errorf("got\n%s, %v, want\n%s", again, err, text)
	}
	if !slices.Equal(got.Listen, c.Listen) || len(got.ListenRanges) != 2 || string(got.Secrets[1].Bytes()) != "\x00\xff" ||
		string(got.Users["alice"].Bytes()) != "wonderland" || got.Engine != turn.Pion || got.MaxStreams != 100 || got.ExpiredGrace != time.Hour {
		t.Errorf("got %+v", got)
	}
}
