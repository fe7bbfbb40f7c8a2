package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBatchable(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.1:2")
	here, there := netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.4")
	repeat := func(n, length int) (all []letter) {
		for range n {
			all = append(all, letterTo(a, here, length))
		}
		return all
	}
	for _, tt := range []struct {
		name    string
		letters []letter
		want    int
	}{
		{"alone", repeat(1, 100), 1},
		{"equal", repeat(5, 100), 5},
		{"the last shorter", append(repeat(3, 100), letterTo(a, here, 99)), 4},
		{"one in the middle shorter", append(repeat(2, 100), append(repeat(1, 99), repeat(2, 100)...)...), 3},
		{"the last longer", append(repeat(3, 100), letterTo(a, here, 101)), 3},
		{"the last empty", append(repeat(3, 100), letterTo(a, here, 0)), 3},
		{"empty", repeat(5, 0), 1},
		{"another port", append(repeat(2, 100), letterTo(b, here, 100)), 2},
		{"another source address", append(repeat(2, 100), letterTo(a, there, 100)), 2},
		{"as many as possible", repeat(maxSegments+1, 100), maxSegments},
		{"as long as possible", repeat(60, 1300), 50},
		{"too long together", repeat(2, 40000), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var order []int32
			for i := range tt.letters {
				order = append(order, int32(i))
			}
			if got := batchable(tt.letters, order); got != tt.want {
				t.Errorf("%d datagrams, want %d", got, tt.want)
			}
		})
	}
}

func letterTo(to netip.AddrPort, local netip.Addr, length int) letter {
	l := letter{length: length, local: local}
	if _, err := putAddrPort(&l.to, true, to); err != nil {
		panic(err)
	}
	return l
}

func TestRefusalsPauseBatches(t *testing.T) {
	s := segments{tested: true}
	for _, want := range []int{1, 3, 7, 15, 31, 63, 127, 255, 256, 256} {
		if s.refused(unix.EMSGSIZE) {
			t.Fatal("withdrawn")
		}
		paused := 0
		for !s.try(-1) {
			paused++
		}
		if paused != want {
			t.Errorf("%d batches were not tried, want %d", paused, want)
		}
	}
	s.accepted()
	if s.refused(unix.EINVAL); s.pause != 1 {
		t.Errorf("%d batches are not tried after a success and a refusal, want 1", s.pause)
	}
	for _, errno := range []unix.Errno{unix.EIO, unix.EOPNOTSUPP, unix.ENOPROTOOPT} {
		s := segments{tested: true}
		if !s.refused(errno) || s.try(-1) || s.refused(errno) {
			t.Errorf("batches are tried after %v, or withdrawn again", errno)
		}
	}
}

func TestBatchesRequireTheSocketOption(t *testing.T) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // which has no options of UDP
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var s segments
	if s.try(fd) || !s.withdrawn {
		t.Error("batches are tried without UDP_SEGMENT")
	}
}

// TestSegments sends batches and checks that they arrive as the datagrams that were added, whether or not the receiver coalesces
// them.
func TestSegments(t *testing.T) {
	sizes := append(slices.Repeat([]int{1000}, 70), 1000, 999, 1000, 1000, 1, 0, 5, 5, 0, 1472, 1472)
	batches, segmented := uint64(5), uint64(70+2+3+2+2) // 64 and 8 of 1000, 3, 2 of 5, 2 of 1472
	for _, tt := range []struct{ from, to, at string }{
		{"127.0.0.1", "127.0.0.1", "127.0.0.1"},
		{"::1", "::1", "::1"},
		{"0.0.0.0", "127.0.0.1", "127.0.0.2"},
		{"::", "::1", "::1"},
		{"::", "127.0.0.1", "127.0.0.3"},
	} {
		for _, coalesce := range []bool{false, true} {
			for _, segment := range []bool{false, true} {
				t.Run(fmt.Sprintf("from %s at %s, segment %v, coalesce %v", tt.from, tt.at, segment, coalesce), func(t *testing.T) {
					from, to := listen(t, tt.from), listen(t, tt.to)
					if err := to.SetCoalesce(coalesce); err != nil {
						t.Fatal(err)
					}
					outbox, told := NewOutbox(), new(results)
					outbox.SetSegment(segment)
					var sent [][]byte
					for i, size := range sizes {
						b := payload(size)
						copy(b, fmt.Sprint(i))
						sent = append(sent, b)
						outbox.Add(from, b, to.LocalAddr(), netip.MustParseAddr(tt.at), 0, i, told)
					}
					outbox.Flush()
					told.want(t, len(sizes), nil)
					inbox := NewInbox()
					source := netip.AddrPortFrom(netip.MustParseAddr(tt.at), from.LocalAddr().Port())
					wantReceivedIn(t, inbox, to, source, netip.Addr{}, sent...)
					want := OutboxCounts{Calls: 1, Datagrams: uint64(len(sizes))}
					if segment {
						want.Batches, want.Segmented = batches, segmented
					}
					if got := outbox.Counts(); got != want {
						t.Errorf("sent %+v, want %+v", got, want)
					}
					wantCoalesced := uint64(0)
					if segment && coalesce {
						wantCoalesced = segmented
					}
					if got := inbox.Counts(); got.Coalesced != wantCoalesced || got.Datagrams != uint64(len(sizes)) {
						t.Errorf("received %+v, want %d datagrams, of which %d coalesced", got, len(sizes), wantCoalesced)
					}
				})
			}
		}
	}
}

// TestCoalescedDatagramsHaveLocalAddress checks that a socket that is bound to all addresses reports both the destination address
// and the length of the datagrams.
func TestCoalescedDatagramsHaveLocalAddress(t *testing.T) {
	for _, tt := range []struct{ from, to, at string }{
		{"127.0.0.1", "0.0.0.0", "127.0.0.2"}, {"::1", "::", "::1"}, {"127.0.0.1", "::", "127.0.0.2"},
	} {
		from, to, at := listen(t, tt.from), listen(t, tt.to), netip.MustParseAddr(tt.at)
		if err := to.SetCoalesce(true); err != nil {
			t.Fatal(err)
		}
		outbox, inbox := NewOutbox(), NewInbox()
		for range 3 {
			outbox.Add(from, payload(100), netip.AddrPortFrom(at, to.LocalAddr().Port()), netip.Addr{}, 0, 0, nil)
		}
		outbox.Flush()
		wantReceivedIn(t, inbox, to, from.LocalAddr(), at, payload(100), payload(100), payload(100))
		if got := inbox.Counts(); got != (InboxCounts{Calls: 1, Datagrams: 3, Coalesced: 3}) {
			t.Errorf("received %+v", got)
		}
	}
}

// TestDatagramsAboveTheMTU checks that datagrams that exceed the MTU are sent in fragments, although the kernel refuses them in a
// batch, and that all of them fail if they may not be fragmented.
func TestDatagramsAboveTheMTU(t *testing.T) {
	for _, not := range []bool{false, true} {
		var from, to *Socket
		inNamespace(t, 600, func() (err error) {
			if from, err = listenAt("udp4", netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
				return err
			}
			to, err = listenAt("udp4", netip.MustParseAddrPort("127.0.0.1:0"))
			return err
		})
		t.Cleanup(func() { _, _ = from.Close(), to.Close() })
		if err := from.SetDontFragment(not); err != nil {
			t.Fatal(err)
		}
		outbox, told := NewOutbox(), new(results)
		var received [][]byte
		fails := make(map[int]error)
		for i, size := range []int{100, 100, 1000, 1000, 1000, 100, 100, 100} {
			outbox.Add(from, payload(size), to.LocalAddr(), netip.Addr{}, 0, i, told)
			if not && size == 1000 {
				fails[i] = unix.EMSGSIZE
			} else {
				received = append(received, payload(size))
			}
		}
		outbox.Flush()
		told.want(t, 8, fails)
		wantReceived(t, to, from.LocalAddr(), netip.Addr{}, received...)
		if got := outbox.Counts(); got.Batches != 2 || got.Segmented != 4 || got.Refused != 1 || got.Withdrawn != 0 {
			t.Errorf("sent %+v, want two batches, between which one was refused", got)
		}
		for _, want := range []uint64{2, 3, 4} { // the first batch after a refusal is not tried
			outbox.Add(from, payload(100), to.LocalAddr(), netip.Addr{}, 0, 0, nil)
			outbox.Add(from, payload(100), to.LocalAddr(), netip.Addr{}, 0, 0, nil)
			outbox.Flush()
			if got := outbox.Counts(); got.Batches != want {
				t.Errorf("sent %+v, want %d batches", got, want)
			}
		}
	}
}

// TestSegmentsAcrossADevice checks that batches cross a pair of devices unchanged. The receiver gets the datagrams one by one or
// coalesced.
func TestSegmentsAcrossADevice(t *testing.T) {
	var from, to *Socket
	inNamespace(t, 1500, func() error {
		here := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		open := func(device, addr string) (s *Socket, err error) {
			if err := errors.Join(ip("addr", "add", addr+"/24", "dev", device), ip("link", "set", device, "up")); err != nil {
				return nil, err
			}
			return listenAt("udp4", netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
		}
		err := namespace(1500, func() (err error) {
			if err := ip("link", "add", "far", "type", "veth", "peer", "name", "near", "netns", here); err != nil {
				return err
			}
			to, err = open("far", "198.51.100.2")
			return err
		})
		if err != nil {
			return err
		}
		from, err = open("near", "198.51.100.1")
		return err
	})
	t.Cleanup(func() { _, _ = from.Close(), to.Close() })
	if err := from.SetDontFragment(true); err != nil {
		t.Fatal(err)
	}
	for _, coalesce := range []bool{false, true} {
		if err := to.SetCoalesce(coalesce); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1, 160, 1200, 1472} {
			outbox, inbox := NewOutbox(), NewInbox()
			var sent [][]byte
			for i := range 20 {
				sent = append(sent, bytes.Repeat([]byte{byte(i)}, size))
				outbox.Add(from, sent[i], to.LocalAddr(), netip.Addr{}, 0, 0, nil)
			}
			outbox.Flush()
			for received := 0; received < len(sent); {
				// The other processor may carry the datagrams.
				if n, err := unix.Poll([]unix.PollFd{{Fd: int32(to.FD()), Events: unix.POLLIN}}, 5000); n != 1 || err != nil {
					t.Fatalf("received %d of %d datagrams of %d bytes: %v", received, len(sent), size, err)
				}
				n, _, err := to.Receive(inbox, Batch)
				if err != nil {
					t.Fatal(err)
				}
				for i := range n {
					data, source, _ := inbox.Datagram(i)
					if received == len(sent) || !bytes.Equal(data, sent[received]) || source != from.LocalAddr() {
						t.Fatalf("datagram %d of %d bytes arrived with %d, from %v", received, size, len(data), source)
					}
					received++
				}
			}
			wantCoalesced := uint64(0)
			if coalesce {
				wantCoalesced = uint64(len(sent))
			}
			if out, in := outbox.Counts(), inbox.Counts(); out.Batches != 1 || out.Refused != 0 || in.Coalesced != wantCoalesced {
				t.Errorf("%d bytes: sent %+v, received %+v", size, out, in)
			}
		}
	}
}

// TestFullSendBuffer checks that datagrams are dropped when the send buffer is full, without further calls.
func TestFullSendBuffer(t *testing.T) {
	for _, segment := range []bool{false, true} {
		var from, to *Socket
		inNamespace(t, 1500, func() (err error) {
			// Packets that are sent wait for an ARP response that never comes.
			err = errors.Join(ip("link", "add", "near", "type", "veth", "peer", "name", "far"), ip("link", "set", "near", "up"),
				ip("link", "set", "far", "up"), ip("addr", "add", "198.51.100.1/24", "dev", "near"))
			if err != nil {
				return err
			}
			if from, err = listenAt("udp4", netip.MustParseAddrPort("0.0.0.0:0")); err != nil {
				return err
			}
			to, err = listenAt("udp4", netip.MustParseAddrPort("127.0.0.1:0"))
			return err
		})
		t.Cleanup(func() { _, _ = from.Close(), to.Close() })
		if err := unix.SetsockoptInt(from.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil { // the kernel has a minimum
			t.Fatal(err)
		}
		outbox, told := NewOutbox(), new(results)
		outbox.SetSegment(segment)
		const n = outboxCount
		for i := range n {
			outbox.Add(from, payload(1400), netip.MustParseAddrPort("198.51.100.2:9"), netip.Addr{}, 0, i, told)
		}
		outbox.Flush()
		fails := make(map[int]error)
		for i, err := range told.errs {
			if told.payloads[i] != i {
				t.Fatalf("datagram %d was reported as the %d-th", told.payloads[i], i)
			}
			if err != nil || len(fails) > 0 {
				fails[i] = unix.EAGAIN
			}
		}
		told.want(t, n, fails)
		if got := outbox.Counts(); len(fails) == 0 || len(fails) == n || got.Calls > 2 {
			t.Errorf("%d of %d datagrams were dropped with %d calls, want some and at most 2", len(fails), n, got.Calls)
		}
		// A single datagram is dropped too.
		outbox.Add(from, payload(1), netip.MustParseAddrPort("198.51.100.2:9"), netip.Addr{}, 0, n, told)
		outbox.Flush()
		fails[n] = unix.EAGAIN
		told.want(t, n+1, fails)
	}
}

// TestPendingErrors checks that an ICMP error, which the kernel reports with the next call on the socket, does not lose another
// datagram.
func TestPendingErrors(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		for _, receiveErrors := range []bool{false, true} {
			for n := range 3 {
				from, to, closed := listen(t, host), listen(t, host), listen(t, host)
				nobody := closed.LocalAddr()
				if err := closed.Close(); err != nil {
					t.Fatal(err)
				}
				if receiveErrors { // without, the kernel reports no ICMP errors on a socket that is not connected
					level, option := unix.IPPROTO_IP, unix.IP_RECVERR
					if !from.ipv4 {
						level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
					}
					if err := unix.SetsockoptInt(from.FD(), level, option, 1); err != nil {
						t.Fatal(err)
					}
				}
				outbox, told, inbox := NewOutbox(), new(results), NewInbox()
				outbox.Add(from, payload(0), nobody, netip.Addr{}, 0, 0, told)
				outbox.Flush()
				var sent [][]byte
				for i := range n {
					sent = append(sent, payload(i+1))
					outbox.Add(from, sent[i], to.LocalAddr(), netip.Addr{}, 0, i+1, told)
				}
				outbox.Flush()
				told.want(t, n+1, nil)
				wantReceived(t, to, from.LocalAddr(), netip.Addr{}, sent...)

				send(t, from, 0, nobody)
				send(t, from, 1, to.LocalAddr())
				wantReceived(t, to, from.LocalAddr(), netip.Addr{}, payload(1))

				outbox.Add(from, payload(0), nobody, netip.Addr{}, 0, n+1, told)
				outbox.Add(to, payload(7), from.LocalAddr(), netip.Addr{}, 0, n+2, told)
				outbox.Flush()
				if n, _, err := from.Receive(inbox, Batch); n != 1 || err != nil {
					t.Errorf("received %d datagrams after an ICMP error, %v, want 1", n, err)
				}
			}
		}
	}
}
