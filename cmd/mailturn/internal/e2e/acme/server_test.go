package acme

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

var mailturn string // built by TestMain

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mailturn-acme")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Setenv("PEBBLE_VA_NOSLEEP", "1")
	mailturn = filepath.Join(dir, "mailturn")
	build := exec.Command("go", "build", "-o", mailturn, ".")
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build mailturn: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// lacks skips a test because of something missing, or fails it if MAILTURN_E2E is set.
func lacks(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("MAILTURN_E2E") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

const (
	mailName = "mail.example.test"
	turnName = "turn.example.test"
	patience = time.Minute
)

// A server is a mailturn process with an endpoint of each kind that presents certificates.
type server struct {
	imap, turn, http string // HOST:PORT of TLS
	dir              string // for its configuration and state
	log              *logBuffer
	process          *os.Process
	stop             func() // ends it
}

// start runs mailturn with an acme block, and returns once it serves.
func start(t *testing.T, acme string) *server {
	t.Helper()
	return startOn(t, freeAddr(t), acme)
}

// startOn is start with the TURN endpoint on an address.
func startOn(t *testing.T, turn, acme string) *server {
	t.Helper()
	s := &server{imap: freeAddr(t), turn: turn, http: freeAddr(t), dir: t.TempDir(), log: &logBuffer{}}
	s.configure(t, acme)
	s.run(t)
	return s
}

// run runs mailturn until stop is called or the test ends, and returns once it serves.
func (s *server) run(t *testing.T) {
	t.Helper()
	cmd := exec.Command(mailturn, "run", "--config", s.file(), "--state-dir", s.dir)
	cmd.Stderr = s.log
	exited, err := daemon.Run(cmd)
	if err != nil {
		t.Fatal(err)
	}
	s.process = cmd.Process
	s.stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(patience):
			t.Error("mailturn does not end")
			cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("mailturn:\n%s", s.log)
		}
	})
	t.Cleanup(s.stop)
	s.await(t, "msg=ready", 1)
}

func (s *server) file() string { return filepath.Join(s.dir, "maddy.conf") }

// configure writes the configuration.
func (s *server) configure(t *testing.T, acme string) {
	t.Helper()
	text := fmt.Sprintf(`
hostname = %[1]q
tls {
  %[2]s
}
endpoint "imap" "imap" {
  listen      = "tls://%[3]s"
  turn_server = %[4]q
  turn_port   = %[8]d
  turns_port  = %[5]s
  embedded { users = { "alice@example.test" = "wonderland" } }
}
endpoint "turn" "turn" {
  listen   = ["tls://%[6]s", "udp://127.0.0.1:%[8]d"]
  realm    = "example.test"
  secret   = "correct horse battery staple"
  relay_ip = "127.0.0.1"
}
endpoint "http" "http" { listen = ["https://%[7]s"] }
`, mailName, acme, s.imap, turnName, s.turn[strings.LastIndex(s.turn, ":")+1:], s.turn, s.http, freePort(t))
	if err := os.WriteFile(s.file(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// await waits until the log contains a text that many times.
func (s *server) await(t *testing.T, text string, times int) {
	t.Helper()
	s.eventually(t, fmt.Sprintf("%d times %q in the log", times, text), func() bool { return strings.Count(s.log.String(), text) >= times })
}

func (s *server) eventually(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !reached(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// presented returns the certificate presented at address to a client that requests name.
func presented(address, name string) (*x509.Certificate, error) {
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// awaitIssued waits until every endpoint presents certificates of the authority for both names, and returns that for mailName.
func (s *server) awaitIssued(t *testing.T, good func(*x509.Certificate) bool) (leaf *x509.Certificate) {
	t.Helper()
	for _, address := range []string{s.imap, s.turn, s.http} {
		for _, name := range []string{turnName, mailName} {
			s.eventually(t, "a certificate of Pebble for "+name+" at "+address, func() bool {
				found, err := presented(address, name)
				leaf = found
				return err == nil && strings.HasPrefix(found.Issuer.CommonName, "Pebble") && found.VerifyHostname(name) == nil && good(found)
			})
		}
	}
	return leaf
}

func anyCertificate(*x509.Certificate) bool { return true }

// logBuffer holds what a process has written so far.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
