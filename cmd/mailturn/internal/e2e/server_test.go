package e2e

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// startLimit is how long the server may take to listen, and stopLimit how long to end after an interrupt.
const (
	startLimit = time.Minute
	stopLimit  = time.Minute
)

var binary string // built by TestMain

func TestMain(m *testing.M) {
	os.Exit(build(m))
}

func build(m *testing.M) int {
	// What may run in parallel here mostly waits for the clocks of other programs. Browsers, which do not, have no others
	// beside them.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		_ = parallel.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0)))
	}
	dir, err := os.MkdirTemp("", "mailturn-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "mailturn")
	args := []string{"build", "-o", binary}
	if raceDetector {
		args = append(args, "-race")
	}
	if value := os.Getenv(kernelPathVariable); value != "" {
		more, err := withKernelPath(dir, value)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		args = append(args, more...)
	}
	if out, err := exec.Command("go", append(args, "../..")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build mailturn: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// peer returns the path of a program of somebody else.
func peer(t *testing.T, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		lacks(t, "%s is not installed: apt-get install %s", program, debianPackage)
	}
	return path
}

// lacks skips a test for what is not there, and fails it when MAILTURN_E2E is set.
func lacks(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("MAILTURN_E2E") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// needRoot is for tests that need root.
func needRoot(t *testing.T, what string) {
	t.Helper()
	if os.Getuid() != 0 {
		lacks(t, "%s needs root", what)
	}
}

// needIPv6 is for tests that use it, which some containers do not have.
func needIPv6(t *testing.T) {
	t.Helper()
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		lacks(t, "IPv6 is not there: %v", err)
	}
	conn.Close()
}

// server is a running mailturn.
type server struct {
	cmd    *exec.Cmd
	stdout *lines
	stderr *lines
	exited chan error
}

// start runs the binary with its state in a directory of the test and waits until it says that it is ready. The server is
// interrupted, and must end cleanly, when the test ends.
func start(t *testing.T, stateDir string, args ...string) *server {
	t.Helper()
	return startCommand(t, exec.Command(binary, append([]string{"run", "--state-dir", stateDir}, args...)...))
}

// startCommand is start for a command that has been made already, such as one in a namespace.
func startCommand(t *testing.T, cmd *exec.Cmd) *server {
	t.Helper()
	s := &server{cmd: cmd, stdout: &lines{}, stderr: &lines{}}
	s.run(t)
	s.waitFor(t, s.stderr, "msg=ready")
	return s
}

// run starts the process, which the end of the test stops.
func (s *server) run(t *testing.T) {
	t.Helper()
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, s.stderr
	var err error
	if s.exited, err = daemon.Run(s.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			s.stop(t)
		}
		if t.Failed() {
			t.Logf("mailturn's log:\n%s", s.stderr)
		}
	})
}

// waitFor waits until the server has written a line with the text to out, and returns that line.
func (s *server) waitFor(t *testing.T, out *lines, text string) string {
	t.Helper()
	return s.waitForNext(t, out, 0, text)
}

// waitForNext is waitFor for a line that begins after the first bytes of out.
func (s *server) waitForNext(t *testing.T, out *lines, after int, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	for {
		line, changed := out.find(after, text)
		if line != "" {
			return line
		}
		select {
		case <-changed:
		case err := <-s.exited:
			s.exited <- err
			t.Fatalf("mailturn ended (%v) before it wrote %q:\n%s%s", err, text, s.stdout, s.stderr)
		case <-ctx.Done():
			t.Fatalf("mailturn did not write %q in %v:\n%s%s", text, startLimit, s.stdout, s.stderr)
		}
	}
}

// stop sends an interrupt, as Ctrl-C does, and checks that the exit status is 0.
func (s *server) stop(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	select {
	case err := <-s.exited:
		if err != nil {
			t.Errorf("after an interrupt: %v", err)
		}
	case <-time.After(stopLimit):
		s.cmd.Process.Kill()
		<-s.exited
		t.Errorf("mailturn still ran %v after an interrupt", stopLimit)
	}
	if log := s.stderr.String(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic") {
		t.Errorf("a race or a panic in the log:\n%s", log)
	}
}

// lines keeps what a process writes and wakes those who wait for more.
type lines struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// find returns the last whole line that holds text and begins at or after an offset, and a channel that is closed when more is written.
func (l *lines) find(after int, text string) (line string, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	r := bufio.NewReader(bytes.NewReader(l.text.Bytes()[after:]))
	for {
		next, err := r.ReadString('\n')
		if err == io.EOF {
			return line, l.changed
		}
		if strings.Contains(next, text) {
			line = next
		}
	}
}

// ports are free ports of loopback for one server.
type ports struct {
	imap, imaps, turn, turns int
}

// freePorts returns ports that are free for TCP and UDP.
func freePorts(t *testing.T) (p ports) {
	t.Helper()
	for _, port := range []*int{&p.imap, &p.imaps, &p.turn, &p.turns} {
		var err error
		if *port, err = daemon.FreePort("127.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

const secret = "an end-to-end secret of 32 bytes"

// configure writes a configuration for loopback; turn and imap are further lines for the two endpoints.
func configure(t *testing.T, p ports, turn, imap string) (path string) {
	t.Helper()
	return configureEngine(t, mailturnEngine, p, turn, imap)
}

// configureEngine is configure for an engine of the relay.
func configureEngine(t *testing.T, e engine, p ports, turn, imap string) (path string) {
	t.Helper()
	listen := fmt.Sprintf(`"udp://127.0.0.1:%d", "tcp://127.0.0.1:%d", "tls://127.0.0.1:%d"`, p.turn, p.turn, p.turns)
	if e.dtls {
		listen += fmt.Sprintf(`, "dtls://127.0.0.1:%d"`, p.turns)
	}
	path = filepath.Join(t.TempDir(), "maddy.conf")
	text := fmt.Sprintf(`
hostname = "localhost"
log {
  level = "debug"
}
endpoint "turn" "turn" {
  listen       = [%s]
  realm        = "example.org"
  secret       = %q
  relay_ip     = "127.0.0.1"
  relay_ports  = "49152-65535"
  %s
  %s
}
endpoint "imap" "imap" {
  listen      = ["tls://127.0.0.1:%d", "tcp://127.0.0.1:%d"]
  turn_server = "127.0.0.1"
  embedded {
    users = {
      "alice@example.org" = "wonderland"
      "bob@example.org"   = "builder"
    }
  }
  %s
}
`, listen, secret, e.lines, turn, p.imaps, p.imap, imap)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// manyAllocations is for tests in which one credential has more allocations at a time than a person.
const manyAllocations = "\n  user_quota = 0\n"

const allowLoopback = `peers {
    allow = ["127.0.0.0/8"]
  }`
