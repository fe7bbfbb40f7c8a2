package udp

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListen(t *testing.T) {
	for _, tt := range []struct {
		network, addr string
		err           error
	}{
		{"udp4", "127.0.0.1:0", nil},
		{"udp4", "0.0.0.0:0", nil},
		{"udp6", "[::1]:0", nil},
		{"udp6", "[::]:0", nil},
		{"udp4", "[::1]:0", unix.EAFNOSUPPORT},
		{"udp4", "192.0.2.1:0", unix.EADDRNOTAVAIL},
	} {
		t.Run(tt.network+" "+tt.addr, func(t *testing.T) {
			want := netip.MustParseAddrPort(tt.addr)
			if want.Addr().Is6() {
				listen(t, "::1") // skips without IPv6
			}
			s, err := listenAt(tt.network, want)
			if !errors.Is(err, tt.err) {
				t.Errorf("%v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			if got := s.LocalAddr(); got.Addr() != want.Addr() || got.Port() == 0 {
				t.Errorf("bound to %v", got)
			}
			if _, err := listenAt(tt.network, s.LocalAddr()); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("the port of another socket: %v", err)
			}
			if _, _, err := s.Receive(NewInbox(), Batch); err != unix.EAGAIN {
				t.Errorf("received %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if _, _, err := s.Receive(NewInbox(), Batch); !errors.Is(err, unix.EBADF) {
				t.Errorf("a closed socket received %v", err)
			}
		})
	}
}

// TestNewSocketClosesTheDescriptor checks that NewSocket closes a descriptor that is not a UDP socket.
func TestNewSocketClosesTheDescriptor(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, open := range []func() (int, error){
		func() (int, error) { return unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0) },
		func() (int, error) { return unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) },
	} {
		fd, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if s, err := NewSocket(fd, true); err == nil {
			t.Errorf("made a socket at %v", s.LocalAddr())
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("the descriptor is open: %v", err)
		}
	}
}

// TestFromConn checks that the socket remains open, and that the net.UDPConn is closed.
func TestFromConn(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := AddrPortOf(conn.LocalAddr())
	s, err := FromConn(conn, true)
	if err != nil {
		t.Fatal(err)
	}
	if s.LocalAddr() != addr {
		t.Errorf("bound to %v, want %v", s.LocalAddr(), addr)
	}
	if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the conn is open: %v", err)
	}
	if _, err := FromConn(conn, true); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed conn became a socket: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := listenAt("udp4", addr)
	if err != nil {
		t.Fatalf("the address is not free again: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestDontFragment(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		s := listen(t, host)
		level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
		if !s.ipv4 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
		}
		for _, not := range []bool{true, false, true} {
			if err := s.SetDontFragment(not); err != nil {
				t.Fatal(err)
			}
			got, err := unix.GetsockoptInt(s.FD(), level, option)
			if err != nil || (got == unix.IP_PMTUDISC_DO) != not {
				t.Errorf("%s: path MTU discovery is %d, %v, want DF %v", host, got, err, not)
			}
		}
	}
}
