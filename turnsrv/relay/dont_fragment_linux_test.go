package relay

import (
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
	value, err := syscall.GetsockoptInt(s.(*polledSocket).fd, syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER)
	if err != nil {
		t.Fatal(err)
	}
	return value == syscall.IP_PMTUDISC_DO
}
