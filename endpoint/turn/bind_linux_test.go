package turn

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestReceiveBuffer checks that the buffer has the requested size, or the largest that the system grants.
func TestReceiveBuffer(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		t.Fatal(err)
	}
	granted, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bindUDP("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var size int
	if controlErr := raw.Control(func(fd uintptr) {
		size, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF)
	}); controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	if want := 2 * min(ReceiveBuffer, granted); size != want { // socket(7): the kernel doubles it for its own bookkeeping
		t.Errorf("got a buffer of %d bytes, want %d", size, want)
	}
}
