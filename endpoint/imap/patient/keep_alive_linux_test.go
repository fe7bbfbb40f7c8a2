package patient

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKeepAlive checks that a connection survives minutes without network, and that there are no probes during minutes of IDLE.
func TestKeepAlive(t *testing.T) {
	conn, _ := tcpPair(t)
	if err := conn.(*net.TCPConn).SetKeepAliveConfig(KeepAlive()); err != nil {
		t.Fatal(err)
	}
	idle, interval, count := option(t, conn, unix.TCP_KEEPIDLE), option(t, conn, unix.TCP_KEEPINTVL), option(t, conn, unix.TCP_KEEPCNT)
	if userTimeout := option(t, conn, unix.TCP_USER_TIMEOUT); userTimeout != 0 {
		t.Errorf("TCP_USER_TIMEOUT is %d ms, which ends connections that pause that long", userTimeout)
	}
	if seconds := interval * count; idle < 300 || seconds < 300 {
		t.Errorf("probed after %d s, given up %d s later, want 300 each", idle, seconds)
	}
}

func option(t *testing.T, conn net.Conn, name int) (value int) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if controlErr := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, name) }); controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	return value
}
