package udp

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// open opens a non-blocking socket at addr, port 0, and returns its address.
func open(t *testing.T, addr string) (fd int, ipv4 bool, bound netip.AddrPort) {
	t.Helper()
	ip := netip.MustParseAddr(addr)
	domain, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: ip.As16()})
	if ipv4 = ip.Is4(); ipv4 {
		domain, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, sa); err != nil {
		t.Skipf("bind %s: %v", addr, err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return fd, true, netip.AddrPortFrom(ip, uint16(name.Port))
	case *unix.SockaddrInet6:
		return fd, false, netip.AddrPortFrom(ip, uint16(name.Port))
	}
	t.Fatalf("bound to %v", name)
	return 0, false, netip.AddrPort{}
}

func TestDatagramsComeWholeAndInOrder(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			from, ipv4, fromAddr := open(t, host)
			to, _, toAddr := open(t, host)
			inbox := NewInbox()
			if n, err := inbox.Receive(to); n != 0 || err != unix.EAGAIN {
				t.Fatalf("an empty socket gives %d datagrams, %v", n, err)
			}
			sizes := []int{0, 1, 1500, 65507}
			for i := range Batch + 1 {
				sizes = append(sizes, 100+i)
			}
			// One at a time, then as many as possible at once, in buffers that held others before.
			for _, size := range sizes {
				send(t, from, ipv4, size, toAddr)
				want(t, inbox, to, fromAddr, size)
			}
			for _, size := range sizes[4:] {
				send(t, from, ipv4, size, toAddr)
			}
			want(t, inbox, to, fromAddr, sizes[4:4+Batch]...)
			want(t, inbox, to, fromAddr, sizes[4+Batch])
			for i := range 2 * Batch {
				send(t, from, ipv4, i, toAddr)
				want(t, inbox, to, fromAddr, i)
			}
		})
	}
}

// payload is size bytes that begin with their number.
func payload(size int) []byte {
	b := make([]byte, size)
	copy(b, strconv.Itoa(size))
	return b
}

func send(t *testing.T, fd int, ipv4 bool, size int, to netip.AddrPort) {
	t.Helper()
	if err := Send(fd, ipv4, payload(size), to, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, inbox *Inbox, fd int, from netip.AddrPort, sizes ...int) {
	t.Helper()
	n, err := inbox.Receive(fd)
	if err != nil || n != len(sizes) {
		t.Fatalf("received %d datagrams, %v, want %d", n, err, len(sizes))
	}
	for i, size := range sizes {
		data, source, local := inbox.Datagram(i)
		if !bytes.Equal(data, payload(size)) || source != from || local.IsValid() {
			t.Errorf("received %d bytes from %v at %v, want %d from %v", len(data), source, local, size, from)
		}
	}
}

// TestLocalAddress checks that a socket bound to all addresses responds from the destination address of the request.
func TestLocalAddress(t *testing.T) {
	for _, tt := range []struct{ all, client, at string }{
		{"0.0.0.0", "127.0.0.1", "127.0.0.2"},
		{"::", "::1", "::1"},
		{"::", "127.0.0.1", "127.0.0.2"}, // in addresses of IPv6 that are mapped
	} {
		t.Run(tt.all+" "+tt.at, func(t *testing.T) {
			all, ipv4, allAddr := open(t, tt.all)
			if err := TellLocal(all, ipv4); err != nil {
				t.Fatal(err)
			}
			client, clientIPv4, clientAddr := open(t, tt.client)
			at := netip.AddrPortFrom(netip.MustParseAddr(tt.at), allAddr.Port())
			send(t, client, clientIPv4, 10, at)
			inbox := NewInbox()
			if n, err := inbox.Receive(all); n != 1 || err != nil {
				t.Fatalf("received %d, %v", n, err)
			}
			_, from, local := inbox.Datagram(0)
			if from != clientAddr || local != at.Addr() {
				t.Errorf("from %v at %v, want %v at %v", from, local, clientAddr, at)
			}
			if err := Send(all, ipv4, payload(20), from, local); err != nil {
				t.Fatal(err)
			}
			want(t, inbox, client, at, 20)
		})
	}
}

func TestSendRefuses(t *testing.T) {
	four, _, at4 := open(t, "127.0.0.1")
	six, _, _ := open(t, "::1")
	if err := Send(four, true, make([]byte, 65508), at4, netip.Addr{}); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("what no datagram holds: %v", err)
	}
	if err := Send(four, true, nil, netip.MustParseAddrPort("[::1]:9"), netip.Addr{}); !errors.Is(err, unix.EAFNOSUPPORT) {
		t.Errorf("IPv6 through a socket of IPv4: %v", err)
	}
	if err := Send(six, false, nil, netip.MustParseAddrPort("[fe80::1%eth0]:9"), netip.Addr{}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a zone that is no number: %v", err)
	}
	if err := Send(-1, true, nil, at4, netip.Addr{}); !errors.Is(err, unix.EBADF) {
		t.Errorf("no socket: %v", err)
	}
}

func TestZoneIsKept(t *testing.T) {
	addr := netip.MustParseAddrPort("[fe80::1%7]:40000")
	var sa unix.RawSockaddrInet6
	if _, err := putAddrPort(&sa, false, addr); err != nil || sa.Scope_id != 7 {
		t.Fatalf("scope %d, %v", sa.Scope_id, err)
	}
	if got := addrPort(&sa); got != addr {
		t.Errorf("%v became %v", addr, got)
	}
}
