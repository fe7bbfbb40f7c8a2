package relay

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

func TestT27DontFragment(t *testing.T) {
	o := &owner{}
	c, _ := allocate(t, newAllocator(t, Config{}), Request{}, o)
	far, farAddr := listen(t)
	for _, not := range []bool{true, false, true} {
		c.Send([]byte("x"), farAddr.AddrPort(), not, time.Now())
		read(t, far)
		if got := pathDiscovery(t, c.socket); got != not {
			t.Errorf("DF is %v, want %v", got, not)
		}
	}
}

// pathDiscovery reports whether the kernel sets the DF bit on everything that the socket sends.
func pathDiscovery(t *testing.T, s socket) (on bool) {
	t.Helper()
	raw, err := s.(*goroutineSocket).Socket.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var value int
	var failed error
	err = raw.Control(func(fd uintptr) {
		value, failed = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER)
	})
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return value == syscall.IP_PMTUDISC_DO
}
