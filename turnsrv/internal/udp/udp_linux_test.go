package udp

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDatagramsComeWholeAndInOrder(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			from, to := listen(t, host), listen(t, host)
			inbox := NewInbox()
			if n, _, err := to.Receive(inbox, Batch); n != 0 || err != unix.EAGAIN {
				t.Fatalf("an empty socket gives %d datagrams, %v", n, err)
			}
			sizes := []int{0, 1, 1500, 65507}
			for i := range Batch + 1 {
				sizes = append(sizes, 100+i)
			}
			// One at a time, then as many as possible at once, in buffers that held others before.
			for _, size := range sizes {
				send(t, from, size, to.LocalAddr())
				want(t, inbox, to, from.LocalAddr(), size)
			}
			for _, size := range sizes[4:] {
				send(t, from, size, to.LocalAddr())
			}
			want(t, inbox, to, from.LocalAddr(), sizes[4:4+Batch]...)
			want(t, inbox, to, from.LocalAddr(), sizes[4+Batch])
			for i := range 2 * Batch {
				send(t, from, i, to.LocalAddr())
				want(t, inbox, to, from.LocalAddr(), i)
			}
		})
	}
}

// payload returns size bytes that begin with size.
func payload(size int) []byte {
	b := make([]byte, size)
	copy(b, strconv.Itoa(size))
	return b
}

func send(t *testing.T, s *Socket, size int, to netip.AddrPort) {
	t.Helper()
	if err := s.Send(payload(size), to, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, inbox *Inbox, s *Socket, from netip.AddrPort, sizes ...int) {
	t.Helper()
	n, more, err := s.Receive(inbox, Batch)
	if err != nil || n != len(sizes) || more != (n == Batch) {
		t.Fatalf("received %d datagrams, more %v, %v, want %d", n, more, err, len(sizes))
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
			all, client := listen(t, tt.all), listen(t, tt.client)
			at := netip.AddrPortFrom(netip.MustParseAddr(tt.at), all.LocalAddr().Port())
			send(t, client, 10, at)
			inbox := NewInbox()
			if n, _, err := all.Receive(inbox, Batch); n != 1 || err != nil {
				t.Fatalf("received %d, %v", n, err)
			}
			_, from, local := inbox.Datagram(0)
			if from != client.LocalAddr() || local != at.Addr() {
				t.Errorf("from %v at %v, want %v at %v", from, local, client.LocalAddr(), at)
			}
			if err := all.Send(payload(20), from, local); err != nil {
				t.Fatal(err)
			}
			want(t, inbox, client, at, 20)
		})
	}
}

func TestSendRefuses(t *testing.T) {
	four, six := listen(t, "127.0.0.1"), listen(t, "::1")
	if err := four.Send(make([]byte, 65508), four.LocalAddr(), netip.Addr{}); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("more than a datagram holds: %v", err)
	}
	if err := four.Send(nil, netip.MustParseAddrPort("[::1]:9"), netip.Addr{}); !errors.Is(err, unix.EAFNOSUPPORT) {
		t.Errorf("an IPv6 destination through an IPv4 socket: %v", err)
	}
	if err := six.Send(nil, netip.MustParseAddrPort("[fe80::1%eth0]:9"), netip.Addr{}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a zone that is not a number: %v", err)
	}
	at := four.LocalAddr()
	if err := four.Close(); err != nil {
		t.Fatal(err)
	}
	if err := four.Send(nil, at, netip.Addr{}); !errors.Is(err, unix.EBADF) {
		t.Errorf("a closed socket: %v", err)
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
