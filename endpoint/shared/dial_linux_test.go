package shared

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deafAddr returns an address at which no connection is answered, because the queue of its socket is full.
func deafAddr(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
}

// TestShutdownDuringDial checks that a port does not wait for a fallback that does not answer.
func TestShutdownDuringDial(t *testing.T) {
	p, _ := pipePort(t)
	p.config.Store(&Config{Fallback: deafAddr(t), MaxConnections: 10})
	p.socket = &pausable{Listener: newMember(p, Member{}), closed: make(chan struct{})}
	client, server := net.Pipe()
	defer client.Close()
	p.serving.Go(func() { p.pass(&Conn{Conn: server}) })
	for p.passing.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	p.Shutdown(ctx)
	if took := time.Since(began); took > dialTimeout/2 {
		t.Errorf("Shutdown took %v", took)
	}
	if n := p.counters.failures.Load(); n != 0 {
		t.Errorf("%d failures of the fallback are counted", n)
	}
}
