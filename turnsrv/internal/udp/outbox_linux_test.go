package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// listen opens a Socket on a free port of host. It reports destination addresses if host is unspecified.
func listen(t testing.TB, host string) *Socket {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 0)))
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
		t.Skipf("needs IPv6: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := FromConn(conn, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// listenAt opens a Socket bound to addr.
func listenAt(network string, addr netip.AddrPort) (*Socket, error) {
	s := new(Socket)
	return s, s.Listen(network, addr)
}

// results is a Sender that collects the results.
type results struct {
	payloads []int
	errs     []error
}

func (r *results) Sent(payload int, err error) {
	r.payloads = append(r.payloads, payload)
	r.errs = append(r.errs, err)
}

// want checks that each of n datagrams, whose payloads are their indexes, was reported once, in any order, with the error in fails.
func (r *results) want(t *testing.T, n int, fails map[int]error) {
	t.Helper()
	seen := make(map[int]bool)
	for i, payload := range r.payloads {
		if seen[payload] || payload < 0 || payload >= n {
			t.Errorf("datagram %d was reported again", payload)
		}
		seen[payload] = true
		if !errors.Is(r.errs[i], fails[payload]) {
			t.Errorf("datagram %d: %v, want %v", payload, r.errs[i], fails[payload])
		}
	}
	if len(seen) != n {
		t.Errorf("%d datagrams were reported, want %d", len(seen), n)
	}
}

// wantReceived checks that s receives datagrams as sent by from to the address at, in this order, and no more.
func wantReceived(t *testing.T, s *Socket, from netip.AddrPort, at netip.Addr, sent ...[]byte) {
	t.Helper()
	wantReceivedIn(t, NewInbox(), s, from, at, sent...)
}

func wantReceivedIn(t *testing.T, inbox *Inbox, s *Socket, from netip.AddrPort, at netip.Addr, sent ...[]byte) {
	t.Helper()
	got := 0
	for {
		n, _, err := s.Receive(inbox, Batch)
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			data, source, local := inbox.Datagram(i)
			if got < len(sent) && (!bytes.Equal(data, sent[got]) || source != from || local != at) {
				t.Fatalf("datagram %d: %d bytes from %v at %v, want %d from %v at %v", got, len(data), source, local, len(sent[got]),
					from, at)
			}
			got++
		}
	}
	if got != len(sent) {
		t.Errorf("received %d datagrams, want %d", got, len(sent))
	}
}

func TestOutboxSendsInOrder(t *testing.T) {
	for _, tt := range []struct{ from, to, at string }{
		{"127.0.0.1", "127.0.0.1", "127.0.0.1"},
		{"::1", "::1", "::1"},
		{"0.0.0.0", "127.0.0.1", "127.0.0.2"},
		{"::", "::1", "::1"},
		{"::", "127.0.0.1", "127.0.0.3"}, // through IPv4-mapped addresses
	} {
		for _, sizes := range [][]int{{0}, {1}, {1472}, {65507}, {100, 100, 100, 50, 0, 0, 1, 65507, 1472, 1472, 3}} {
			t.Run(fmt.Sprint(tt.from, tt.at, sizes), func(t *testing.T) {
				from, to, other := listen(t, tt.from), listen(t, tt.to), listen(t, tt.to)
				outbox, told := NewOutbox(), new(results)
				var sent, first [][]byte
				for i, size := range sizes {
					b := payload(size)
					sent = append(sent, bytes.Clone(b))
					outbox.Add(from, b, to.LocalAddr(), netip.MustParseAddr(tt.at), 0, i, told)
					clear(b) // the Outbox has a copy
					if i == 0 {
						first = sent
						outbox.Add(from, sent[0], other.LocalAddr(), netip.MustParseAddr(tt.at), 0, 0, nil)
					}
				}
				if len(told.payloads) != 0 {
					t.Error("sent before the flush")
				}
				outbox.Flush()
				outbox.Flush() // sends nothing
				told.want(t, len(sizes), nil)
				source := netip.AddrPortFrom(netip.MustParseAddr(tt.at), from.LocalAddr().Port())
				wantReceived(t, to, source, netip.Addr{}, sent...)
				wantReceived(t, other, source, netip.Addr{}, first...)
			})
		}
	}
}

func TestOutboxFlushesItselfWhenFull(t *testing.T) {
	for _, size := range []int{10, 65507} {
		from, to := listen(t, "127.0.0.1"), listen(t, "127.0.0.1")
		if err := unix.SetsockoptInt(to.FD(), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
			t.Log(err)
		}
		fits := min(outboxCount, outboxBytes/size)
		outbox, told := NewOutbox(), new(results)
		for i := range fits + 1 {
			if len(told.payloads) != 0 {
				t.Fatalf("sent with %d of %d", i, fits)
			}
			outbox.Add(from, payload(size), to.LocalAddr(), netip.Addr{}, 0, i, told)
		}
		if len(told.payloads) != fits {
			t.Errorf("%d datagrams of %d bytes were sent when there was no room, want %d", len(told.payloads), size, fits)
		}
		outbox.Flush()
		told.want(t, fits+1, nil)
	}
}

func TestOutboxReportsWhatCannotBeSent(t *testing.T) {
	four, err := listenAt("udp4", netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = four.Close() })
	six, to := listen(t, "::1"), listen(t, "127.0.0.1")
	outbox, told := NewOutbox(), new(results)
	outbox.Add(four, payload(1), to.LocalAddr(), netip.Addr{}, 0, 0, told)
	outbox.Add(four, payload(2), netip.MustParseAddrPort("[::1]:9"), netip.Addr{}, 0, 1, told)
	outbox.Add(four, make([]byte, 65508), to.LocalAddr(), netip.Addr{}, 0, 2, told)
	outbox.Add(four, make([]byte, 65537), to.LocalAddr(), netip.Addr{}, 0, 3, told)
	outbox.Add(six, nil, netip.MustParseAddrPort("[fe80::1%lo]:9"), netip.Addr{}, 0, 4, told)
	outbox.Add(four, payload(5), netip.MustParseAddrPort("255.255.255.255:9"), netip.Addr{}, 0, 5, told) // without SO_BROADCAST
	outbox.Add(four, payload(6), to.LocalAddr(), netip.Addr{}, 0, 6, told)
	outbox.Flush()
	told.want(t, 7, map[int]error{
		1: unix.EAFNOSUPPORT, 2: unix.EMSGSIZE, 3: unix.EMSGSIZE, 4: unix.EINVAL, 5: unix.EACCES,
	})
	wantReceived(t, to, four.LocalAddr(), netip.Addr{}, payload(1), payload(6))
}

func TestOutboxFlushesASocket(t *testing.T) {
	a, b, to := listen(t, "127.0.0.1"), listen(t, "127.0.0.1"), listen(t, "127.0.0.1")
	outbox, told := NewOutbox(), new(results)
	outbox.FlushSocket(a)
	outbox.Add(b, payload(1), to.LocalAddr(), netip.Addr{}, 0, 1, told)
	outbox.Add(a, payload(0), to.LocalAddr(), netip.Addr{}, 0, 0, told)
	outbox.FlushSocket(a)
	told.want(t, 1, nil)
	outbox.Add(a, payload(2), to.LocalAddr(), netip.Addr{}, 0, 2, told)
	outbox.Add(a, payload(3), to.LocalAddr(), netip.Addr{}, 0, 3, told)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil || a.FD() != -1 {
		t.Errorf("closed again: %v, %d", err, a.FD())
	}
	outbox.Flush()
	told.want(t, 4, map[int]error{2: net.ErrClosed, 3: net.ErrClosed})
	inbox := NewInbox()
	if n, _, err := to.Receive(inbox, Batch); n != 2 || err != nil {
		t.Errorf("received %d datagrams, %v, want 2", n, err)
	}
}

// panicking is a Sender that panics.
type panicking struct{}

func (panicking) Sent(int, error) { panic("sent") }

// TestOutboxSurvivesAPanic checks that a panic of a Sender, from which an event loop recovers, does not affect other sockets.
func TestOutboxSurvivesAPanic(t *testing.T) {
	a, b, to := listen(t, "127.0.0.1"), listen(t, "127.0.0.1"), listen(t, "127.0.0.1")
	outbox, told := NewOutbox(), new(results)
	outbox.Add(a, payload(1), to.LocalAddr(), netip.Addr{}, 0, 0, panicking{})
	outbox.Add(b, payload(2), to.LocalAddr(), netip.Addr{}, 0, 0, told)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the Sender was not told")
			}
		}()
		outbox.Flush()
	}()
	outbox.Add(a, payload(3), to.LocalAddr(), netip.Addr{}, 0, 1, told)
	outbox.Flush()
	outbox.Add(b, payload(4), to.LocalAddr(), netip.Addr{}, 0, 2, told)
	outbox.Flush()
	told.want(t, 3, nil)
	inbox := NewInbox()
	if n, _, err := to.Receive(inbox, Batch); n != 4 || err != nil {
		t.Errorf("received %d datagrams, %v, want 4", n, err)
	}
}
