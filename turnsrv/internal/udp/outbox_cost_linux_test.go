package udp

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOutboxCostsNoAllocation(t *testing.T) {
	for _, tt := range []struct{ from, to, at string }{
		{"127.0.0.1", "127.0.0.1", "127.0.0.1"}, {"::", "0.0.0.0", "127.0.0.2"}, {"::1", "::", "::1"},
	} {
		for _, batch := range []int{1, 2, 10} {
			from, to := listen(t, tt.from), listen(t, tt.to)
			if err := to.SetCoalesce(true); err != nil {
				t.Fatal(err)
			}
			outbox, inbox := NewOutbox(), NewInbox()
			at := netip.AddrPortFrom(netip.MustParseAddr(tt.at), to.LocalAddr().Port())
			b := make([]byte, 1000)
			told := new(tally)
			allocs := testing.AllocsPerRun(50, func() {
				for range batch {
					outbox.Add(from, b, at, at.Addr(), 0, 1000, told)
					outbox.Add(from, b[:1], at, at.Addr(), 0, 1, told)
				}
				outbox.Flush()
				if err := from.Send(b, at, at.Addr()); err != nil {
					t.Fatal(err)
				}
				for got := 0; got < 2*batch+1; {
					n, _, err := to.Receive(inbox, Batch)
					if err != nil {
						t.Fatal(err)
					}
					for i := range n {
						inbox.Datagram(i)
					}
					got += n
				}
			})
			if allocs != 0 || told.failed != 0 || told.payload != 51*1001*batch {
				t.Errorf("from %s, %d datagrams: %v allocations, %+v, want none", tt.from, 2*batch, allocs, *told)
			}
		}
	}
}

// tally is a Sender that adds up the results.
type tally struct{ payload, failed int }

func (t *tally) Sent(payload int, err error) {
	if err != nil {
		t.failed++
	} else {
		t.payload += payload
	}
}

// BenchmarkSend compares the ways to send datagrams to one address. A filter drops them at the receiver, so that its buffer does
// not matter. The figures are for one datagram.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{160, 1200} {
		for _, batch := range []int{1, 4, 10} {
			for _, way := range []string{"singly", "sendmmsg", "segmented"} {
				b.Run(fmt.Sprintf("bytes=%d/batch=%d/%s", size, batch, way), func(b *testing.B) {
					from, to := listen(b, "127.0.0.1"), listen(b, "127.0.0.1")
					drop(b, to)
					data := make([]byte, size)
					outbox, told := NewOutbox(), new(tally)
					outbox.SetSegment(way == "segmented")
					b.ReportAllocs()
					sent := 0
					for b.Loop() {
						if sent++; way == "singly" {
							told.Sent(size, from.Send(data, to.LocalAddr(), netip.Addr{}))
							continue
						}
						if outbox.Add(from, data, to.LocalAddr(), netip.Addr{}, 0, size, told); sent%batch == 0 {
							outbox.Flush()
						}
					}
					outbox.Flush()
					if told.failed > 0 || told.payload != sent*size {
						b.Errorf("%+v of %d datagrams", *told, sent)
					}
				})
			}
		}
	}
}

// BenchmarkReceive compares receiving the datagrams of a batch one by one and coalesced. The figures are for one datagram, and
// include sending it.
func BenchmarkReceive(b *testing.B) {
	for _, size := range []int{160, 1200} {
		for _, batch := range []int{1, 10} {
			for _, coalesce := range []bool{false, true} {
				b.Run(fmt.Sprintf("bytes=%d/batch=%d/coalesce=%v", size, batch, coalesce), func(b *testing.B) {
					from, to := listen(b, "127.0.0.1"), listen(b, "127.0.0.1")
					if err := to.SetCoalesce(coalesce); err != nil {
						b.Fatal(err)
					}
					data := make([]byte, size)
					outbox, inbox := NewOutbox(), NewInbox()
					b.ReportAllocs()
					sent, received := 0, 0
					for b.Loop() {
						outbox.Add(from, data, to.LocalAddr(), netip.Addr{}, 0, size, nil)
						if sent++; sent%batch != 0 {
							continue
						}
						outbox.Flush()
						for more := true; more; {
							n, again, err := to.Receive(inbox, Batch)
							if err != nil && err != unix.EAGAIN {
								b.Fatal(err)
							}
							received += n
							more = again
						}
					}
					if received < sent-batch {
						b.Errorf("received %d of %d datagrams", received, sent)
					}
				})
			}
		}
	}
}

// drop makes the kernel drop all that arrives at s.
func drop(b *testing.B, s *Socket) {
	b.Helper()
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	program := unix.SockFprog{Len: uint16(len(nothing)), Filter: &nothing[0]}
	if err := unix.SetsockoptSockFprog(s.FD(), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		b.Fatal(err)
	}
}
