// Package redistest runs real Redis servers for tests, on loopback.
package redistest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// A Server is a running redis-server.
type Server struct {
	Addr string // HOST:PORT

	dir string
	cmd *exec.Cmd
	// arguments are those of the command line.
	arguments []string
}

// Start starts redis-server with further lines of its configuration, until the test ends. Without the program it skips the test,
// or fails it where every peer is required.
func Start(t *testing.T, lines ...string) *Server {
	t.Helper()
	return start(t, "", lines)
}

// StartSentinel starts a Sentinel.
func StartSentinel(t *testing.T, lines ...string) *Server {
	t.Helper()
	return start(t, "--sentinel", lines)
}

func start(t *testing.T, option string, lines []string) *Server {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		const message = "redis-server is not installed: apt-get install redis-server"
		if os.Getenv("MAILTURN_E2E") != "" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	s := &Server{Addr: freeAddr(t), dir: t.TempDir()}
	_, port, _ := net.SplitHostPort(s.Addr)
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nsave \"\"\n", port, s.dir)
	for _, line := range lines {
		text += line + "\n"
	}
	file := filepath.Join(s.dir, "redis.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.arguments = []string{program, file}
	if option != "" {
		s.arguments = append(s.arguments, option)
	}
	s.Run(t)
	t.Cleanup(s.Kill)
	return s
}

// Run starts the server again after Kill, with the same address, and waits until it listens.
func (s *Server) Run(t *testing.T) {
	t.Helper()
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(s.arguments[0], s.arguments[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.Addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("redis-server does not listen: %v\n%s", err, text)
		}
	}
}

// Kill kills the server. What it had in memory is lost.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.cmd = nil
}

// Stop makes the server stop answering, with its connections open, until Continue.
func (s *Server) Stop() { s.cmd.Process.Signal(syscall.SIGSTOP) }

// Continue ends Stop.
func (s *Server) Continue() { s.cmd.Process.Signal(syscall.SIGCONT) }

// Port returns the port of the server.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Addr)
	return port
}

// freeAddr returns an address on which nothing listens, nor 10000 above it, where a node of Redis Cluster listens too.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := first.Addr().(*net.TCPAddr).Port
		first.Close()
		if port+10000 > 65535 {
			port -= 10000
		}
		if listens(port) || listens(port+10000) {
			continue
		}
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	t.Fatal("no free port")
	return ""
}

func listens(port int) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return true
	}
	listener.Close()
	return false
}
