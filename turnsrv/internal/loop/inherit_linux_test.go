package loop

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// TestInherit passes a socket to another loop, with other options, while a datagram waits in it and after the other loop was suspended.
// The datagram arrives, and the socket gets the options of the other loop.
func TestInherit(t *testing.T) {
	for _, coalesce := range []bool{true, false} {
		before, err := listen()
		if err != nil {
			t.Fatal(err)
		}
		first := testLoop(t, Options{Coalesce: !coalesce})
		first.Do(func() { err = first.Receive(before, newReceived(), false) })
		if err != nil {
			t.Fatal(err)
		}
		first.group.Suspend()
		far, err := net.Dial("udp4", before.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		if _, err := far.Write([]byte("waiting")); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.FcntlInt(uintptr(before.FD()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		after := new(udp.Socket)
		if addr, err := after.Inherit(fd); err != nil || addr != before.LocalAddr() {
			t.Fatalf("inherited %v, %v, want %v", addr, err, before.LocalAddr())
		}
		second, r := testLoop(t, Options{Coalesce: coalesce}), newReceived()
		second.group.Suspend()
		second.Do(func() { err = second.Inherit(after, r) })
		if err != nil {
			t.Fatal(err)
		}
		first.Do(func() {
			first.Unwatch(before.FD())
			_ = before.Close()
		})
		second.group.Resume()
		r.wait(t, 1)
		if r.data[0] != "waiting" {
			t.Errorf("received %q", r.data[0])
		}
		second.Do(func() {
			on, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO)
			if err != nil || on == 1 != coalesce {
				t.Errorf("the system coalesces datagrams: %d, %v, want %v", on, err, coalesce)
			}
			class, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS)
			if err != nil || class != 1 {
				t.Errorf("the system tells the class: %d, %v", class, err)
			}
			second.Unwatch(fd)
			_ = after.Close()
		})
	}
}
