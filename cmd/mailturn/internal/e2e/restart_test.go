package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pion/turn/v4"
	"golang.org/x/sys/unix"
)

// descriptorStore is a service manager that keeps descriptors for a unit of Type=notify with FileDescriptorStoreMax= and
// NotifyAccess=main, as systemd does: sd_notify(3), FDSTORE=1, and sd_listen_fds(3).
type descriptorStore struct {
	path string
	conn *net.UnixConn

	mu     sync.Mutex
	main   int // the process that may say something
	names  []string
	files  []*os.File
	states chan string // READY and the like, as they come
}

func newDescriptorStore(t *testing.T) *descriptorStore {
	t.Helper()
	s := &descriptorStore{path: filepath.Join(t.TempDir(), "notify"), states: make(chan string, 100)}
	var err error
	if s.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	if err != nil {
		t.Fatal(err)
	}
	var receiving sync.WaitGroup
	receiving.Go(s.receive)
	t.Cleanup(func() {
		s.conn.Close()
		receiving.Wait()
		s.release()
	})
	return s
}

func (s *descriptorStore) receive() {
	buf, control := make([]byte, 4096), make([]byte, 4096)
	for {
		n, controlLen, _, _, err := s.conn.ReadMsgUnix(buf, control)
		if err != nil {
			return
		}
		said := make(map[string]string)
		for line := range strings.Lines(string(buf[:n])) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			said[name] = value
		}
		s.hear(said, control[:controlLen])
	}
}

func (s *descriptorStore) hear(said map[string]string, control []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages, _ := unix.ParseSocketControlMessage(control)
	var sender int
	var fds []int
	for _, m := range messages {
		if credentials, err := unix.ParseUnixCredentials(&m); err == nil {
			sender = int(credentials.Pid)
		} else if rights, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, rights...)
		}
	}
	for _, fd := range fds {
		if sender != s.main || said["FDSTORE"] != "1" || s.has(fd) {
			unix.Close(fd)
			continue
		}
		s.names = append(s.names, said["FDNAME"])
		s.files = append(s.files, os.NewFile(uintptr(fd), said["FDNAME"]))
	}
	if sender == s.main && said["FDSTOREREMOVE"] == "1" {
		for i := len(s.names) - 1; i >= 0; i-- {
			if s.names[i] == said["FDNAME"] {
				s.files[i].Close()
				s.names, s.files = append(s.names[:i], s.names[i+1:]...), append(s.files[:i], s.files[i+1:]...)
			}
		}
	}
	if pid, err := strconv.Atoi(said["MAINPID"]); err == nil && sender == s.main {
		s.main = pid
	}
	for _, state := range []string{"READY", "STOPPING"} {
		if said[state] == "1" && sender == s.main {
			s.states <- state
		}
	}
}

// has reports whether the store has the same socket already.
func (s *descriptorStore) has(fd int) bool {
	var stat, other unix.Stat_t
	unix.Fstat(fd, &stat)
	for _, file := range s.files {
		if unix.Fstat(int(file.Fd()), &other); stat.Dev == other.Dev && stat.Ino == other.Ino {
			return true
		}
	}
	return false
}

// release does what systemd does when the unit is stopped and will not be started again.
func (s *descriptorStore) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, file := range s.files {
		file.Close()
	}
	s.names, s.files = nil, nil
}

// start runs mailturn with what the store has.
func (s *descriptorStore) start(t *testing.T, args ...string) *server {
	t.Helper()
	s.mu.Lock()
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary, "run"}, args...)...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+s.path)
	if cmd.ExtraFiles = s.files; len(s.files) > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(s.files)), "LISTEN_FDNAMES="+strings.Join(s.names, ":"))
	}
	server := &server{cmd: cmd, stdout: &lines{}, stderr: &lines{}}
	server.run(t)
	s.main = cmd.Process.Pid
	s.mu.Unlock()
	server.waitFor(t, server.stderr, "msg=ready")
	s.want(t, "READY")
	return server
}

// mainProcess returns the process ID of the main process.
func (s *descriptorStore) mainProcess() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.main
}

// want waits until the manager is told state.
func (s *descriptorStore) want(t *testing.T, state string) {
	t.Helper()
	limit := time.After(startLimit)
	for {
		select {
		case got := <-s.states:
			if got == state {
				return
			}
		case <-limit:
			t.Fatalf("the service manager was not told %s", state)
		}
	}
}

// wantGreeting waits for the greeting on a connection.
func wantGreeting(t *testing.T, conn net.Conn) *bufio.Reader {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(startLimit))
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "* OK") {
		t.Fatalf("greeted with %q, %v", line, err)
	}
	return r
}

func connect(t *testing.T, port int) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), startLimit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestRestartKeepsMailPorts restarts mailturn during a call, for whose end it is configured to wait, and checks that mail is served
// until then, and that no connection to the mail ports is ever refused.
func TestRestartKeepsMailPorts(t *testing.T) {
	t.Parallel()
	manager := newDescriptorStore(t)
	p, stateDir := freePorts(t), t.TempDir()
	path := configure(t, p, allowLoopback, "max_unauthenticated = 1000\n  max_unauthenticated_network = 10000")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte(`"1s"`), []byte(`"10m"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	arguments := []string{"--state-dir", stateDir, "--config", path}
	first := manager.start(t, arguments...)
	relayed := beginCall(t, p, stateDir)

	refused, stopKnocking := knock(t, p.imap)
	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	manager.want(t, "STOPPING")
	during := connect(t, p.imap)
	fmt.Fprint(during, "a LOGIN alice@example.org wonderland\r\n")
	r := wantGreeting(t, during)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "a OK") {
		t.Errorf("login during the drain: %q, %v", line, err)
	}
	if err := relayed.Close(); err != nil {
		t.Error(err)
	}
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "* BYE") {
		t.Errorf("at the end: %q, %v", line, err)
	}
	select {
	case err := <-first.exited:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(stopLimit):
		t.Fatal("mailturn still runs after the last call")
	}

	var between []net.Conn
	for range 20 {
		between = append(between, connect(t, p.imap))
	}
	second := manager.start(t, arguments...)
	for _, conn := range between {
		wantGreeting(t, conn)
	}
	wantGreeting(t, connect(t, p.imap))
	stopKnocking()
	if n := refused(); n > 0 {
		t.Errorf("%d connections were refused", n)
	}

	// A port that is no longer in the configuration is closed, and not kept for the next process.
	plain, closed := fmt.Sprintf(`"tcp://127.0.0.1:%d"`, p.imap), fmt.Sprintf("127.0.0.1:%d", p.imap)
	rewrite(t, second, path, ", "+plain, "", "msg=reloaded")
	wantClosed(t, closed)
	rewrite(t, second, path, `"tls://127.0.0.1:`+fmt.Sprint(p.imaps)+`"`, fmt.Sprintf(`"tls://127.0.0.1:%d", %s`, p.imaps, plain), "msg=reloaded")
	wantGreeting(t, connect(t, p.imap))
	second.stop(t)
	manager.want(t, "STOPPING")
	text, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte(", "+plain), nil, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	third := manager.start(t, arguments...)
	wantClosed(t, closed)
	third.stop(t)
}

// wantClosed waits until no program listens on addr.
func wantClosed(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(startLimit); ; {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatalf("%s is still open", addr)
		}
	}
}

// knock connects to the port repeatedly until stop is called, and counts how often the connection is refused.
func knock(t *testing.T, port int) (refused func() int, stop func()) {
	t.Helper()
	done := make(chan struct{})
	var knocking sync.WaitGroup
	var n int
	knocking.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				n++
				continue
			}
			conn.Close()
		}
	})
	stop = sync.OnceFunc(func() { close(done) })
	t.Cleanup(func() { stop(); knocking.Wait() })
	return func() int { knocking.Wait(); return n }, stop
}

// beginCall begins a call.
func beginCall(t *testing.T, p ports, stateDir string) net.PacketConn {
	t.Helper()
	got, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	call, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: net.JoinHostPort(got.host, got.port), Username: got.username, Password: got.password, Realm: "example.org", Conn: conn,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(call.Close)
	if err := call.Listen(); err != nil {
		t.Fatal(err)
	}
	relayed, err := call.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	return relayed
}
