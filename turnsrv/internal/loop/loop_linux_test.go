package loop

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

func testLoop(t *testing.T, options Options) *Loop {
	t.Helper()
	l, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// listen opens a socket at any port.
func listen() (*udp.Socket, error) {
	s := new(udp.Socket)
	return s, s.Listen("udp4", netip.MustParseAddrPort("127.0.0.1:0"))
}

// received records datagrams.
type received struct {
	data []string
	from []netip.AddrPort
	seen chan int // gets the number of datagrams so far
}

func newReceived() *received { return &received{seen: make(chan int, 10000)} }

func (r *received) Receive(data []byte, from netip.AddrPort, _ netip.Addr, _ time.Time) {
	r.data, r.from = append(r.data, string(data)), append(r.from, from)
	r.seen <- len(r.data)
}

// wait waits for n datagrams.
func (r *received) wait(t *testing.T, n int) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for got := 0; got < n; {
		select {
		case got = <-r.seen:
		case <-timeout:
			t.Fatalf("received %d datagrams, want %d", got, n)
		}
	}
}

// both runs a test with loops that bypass Go's scheduler while they wait, and with loops that do not.
func both(t *testing.T, test func(t *testing.T, options Options)) {
	for name, options := range map[string]Options{
		"announced": {}, "unannounced": {Unannounced: true, Gather: MaxGather, Segment: true, Coalesce: true},
	} {
		t.Run(name, func(t *testing.T) { test(t, options) })
	}
}

func TestSocket(t *testing.T) {
	both(t, func(t *testing.T, options Options) {
		l := testLoop(t, options)
		s, err := listen()
		if err != nil {
			t.Fatal(err)
		}
		far, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		// Several batches are waiting before the loop receives, and the system reports the socket only once.
		var want []string
		for i := range 3*udp.Batch + 1 {
			b := make([]byte, i)
			if _, err := far.WriteToUDPAddrPort(b, s.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			want = append(want, string(b))
		}
		r := newReceived()
		l.Do(func() { err = l.Receive(s, r, false) })
		if err != nil {
			t.Fatal(err)
		}
		r.wait(t, len(want))
		if !slices.Equal(r.data, want) {
			t.Error("datagrams were received out of order, or not whole")
		}
		// And back, from the loop.
		var sent atomic.Int64
		l.Do(func() {
			for _, data := range want {
				l.Send(s, []byte(data), r.from[0], netip.Addr{}, 0, len(data), sender(func(_ int, err error) {
					if err == nil {
						sent.Add(1)
					}
				}))
			}
		})
		if err := far.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1500)
		for _, data := range want {
			n, from, err := far.ReadFromUDPAddrPort(buf)
			if err != nil || string(buf[:n]) != data || from != s.LocalAddr() {
				t.Fatalf("got %d bytes from %v, %v, want %d", n, from, err, len(data))
			}
		}
		l.Do(func() {
			l.Unwatch(s.FD())
			_ = s.Close()
		})
		if got := int(sent.Load()); got != len(want) {
			t.Errorf("%d datagrams reported as sent, want %d", got, len(want))
		}
	})
}

type sender func(payload int, err error)

func (f sender) Sent(payload int, err error) { f(payload, err) }

func TestPass(t *testing.T) {
	both(t, func(t *testing.T, options Options) {
		from, to := testLoop(t, options), testLoop(t, options)
		r := newReceived()
		addr := netip.MustParseAddrPort("192.0.2.1:5000")
		from.Do(func() {
			for _, data := range []string{"a", "", "ccc"} {
				if !from.Pass(to, r, addr, []byte(data)) {
					t.Error("there was no room")
				}
			}
		})
		r.wait(t, 3)
		var none *Loop
		none.Pass(to, r, addr, []byte("from outside"))
		r.wait(t, 4)
		if want := []string{"a", "", "ccc", "from outside"}; !slices.Equal(r.data, want) || r.from[3] != addr {
			t.Errorf("received %q from %v, want %q", r.data, r.from, want)
		}
	})
}

// TestPassIsBounded passes more datagrams to a busy loop than may wait.
func TestPassIsBounded(t *testing.T) {
	l := testLoop(t, Options{})
	r := newReceived()
	busy, release := make(chan struct{}), make(chan struct{})
	l.Post(func() { close(busy); <-release })
	<-busy
	var none *Loop
	passed, data := 0, make([]byte, 64<<10)
	for none.Pass(l, r, netip.AddrPort{}, data) {
		passed++
	}
	if want := maxPassed / (len(data) + passedOverhead); passed != want {
		t.Errorf("passed %d datagrams, want %d", passed, want)
	}
	close(release)
	r.wait(t, passed)
	l.Do(func() {}) // after the round that delivered them
	if !none.Pass(l, r, netip.AddrPort{}, data) {
		t.Error("there is no room again")
	}
}

func TestAlarm(t *testing.T) {
	both(t, func(t *testing.T, options Options) {
		l := testLoop(t, options)
		rang := make(chan time.Time)
		var alarm *Alarm
		var due time.Time
		l.Do(func() {
			alarm = l.NewAlarm(func(now time.Time) { rang <- now })
			due = time.Now().Add(20 * time.Millisecond)
			alarm.Set(due)
		})
		if now := <-rang; now.Before(due) {
			t.Errorf("the alarm was %v early", due.Sub(now))
		}
		l.Do(func() {
			alarm.Set(time.Now())
			l.RemoveAlarm(alarm)
		})
		l.Do(func() {})
		select {
		case <-rang:
			t.Error("an alarm that was removed rang")
		default:
		}
	})
}

// TestPanicIsSurvived makes a receiver panic. The loop must report the panic and continue.
func TestPanicIsSurvived(t *testing.T) {
	panicked := make(chan any, 1)
	l := testLoop(t, Options{Panicked: func(value any, _ []byte) { panicked <- value }})
	var none *Loop
	none.Pass(l, nil, netip.AddrPort{}, []byte("x"))
	if value := <-panicked; value == nil {
		t.Error("no value")
	}
	l.Post(func() { panic("posted") })
	if value := <-panicked; value != "posted" {
		t.Errorf("got %v", value)
	}
	// Datagrams that arrive together with one that makes a receiver panic are received.
	r := newReceived()
	from := testLoop(t, Options{})
	from.Do(func() {
		from.Pass(l, nil, netip.AddrPort{}, []byte("x"))
		from.Pass(l, r, netip.AddrPort{}, []byte("x"))
	})
	r.wait(t, 1)
	l.Do(func() {
		if held := l.mail.held.Load(); held != 0 {
			t.Errorf("the mailbox counts %d bytes, want 0", held)
		}
	})
	if got := l.Counts().Panics; got != 3 {
		t.Errorf("%d panics counted, want 3", got)
	}
}

// TestPanicCostsOneDatagram makes a receiver panic at the first datagram of a batch.
func TestPanicCostsOneDatagram(t *testing.T) {
	l := testLoop(t, Options{Panicked: func(any, []byte) {}})
	s, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	far, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	for _, data := range []string{"panic", "second", "third"} {
		if _, err := far.WriteToUDPAddrPort([]byte(data), s.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	r := &fragile{received: newReceived()}
	l.Do(func() { err = l.Receive(s, r, false) })
	if err != nil {
		t.Fatal(err)
	}
	r.wait(t, 2)
	if want := []string{"second", "third"}; !slices.Equal(r.data, want) {
		t.Errorf("received %q, want %q", r.data, want)
	}
	l.Do(func() {
		l.Unwatch(s.FD())
		_ = s.Close()
	})
}

// fragile panics when it receives "panic".
type fragile struct{ *received }

func (f *fragile) Receive(data []byte, from netip.AddrPort, local netip.Addr, now time.Time) {
	if string(data) == "panic" {
		panic("fragile")
	}
	f.received.Receive(data, from, local, now)
}

// TestCloseRunsWhatWasPosted checks that Close waits for posted calls, so that a link can end on a loop that is being closed.
func TestCloseRunsWhatWasPosted(t *testing.T) {
	for range 100 {
		l, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		var ran atomic.Bool
		l.Post(func() { ran.Store(true) })
		l.Close()
		if !ran.Load() {
			t.Fatal("Close did not wait")
		}
	}
}
