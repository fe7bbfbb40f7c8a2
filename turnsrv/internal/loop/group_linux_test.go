package loop

import (
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// busyLoops keeps loops busy until stop is called.
func busyLoops(loops []*Loop) (stop func()) {
	var stopped atomic.Bool
	for _, l := range loops {
		var work func()
		work = func() {
			for begin := time.Now(); time.Since(begin) < 200*time.Microsecond; {
			}
			if !stopped.Load() {
				l.Post(work)
			}
		}
		l.Post(work)
	}
	return func() { stopped.Store(true) }
}

// waitThreads waits until a group has n threads.
func waitThreads(t *testing.T, g *Group, n int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); g.Threads() != n; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("there are %d threads, want %d", g.Threads(), n)
		}
	}
}

// TestThreadsFollowLoad puts loops under load and then removes the load, while each loop passes datagrams to the next one. No
// datagram may be lost while loops move between threads.
func TestThreadsFollowLoad(t *testing.T) {
	const n = 4
	g, err := NewGroup(n, Options{Unannounced: true, Gather: MaxGather})
	if err != nil {
		t.Fatal(err)
	}
	var passed, received atomic.Int64
	var ended atomic.Bool
	counter := receiver(func() { received.Add(1) })
	for i, l := range g.Loops() {
		next := g.Loops()[(i+1)%n]
		var alarm *Alarm
		ring := func(now time.Time) {
			if ended.Load() {
				return
			}
			if l.Pass(next, counter, netip.AddrPort{}, []byte("x")) {
				passed.Add(1)
			}
			alarm.Set(now.Add(time.Millisecond))
		}
		l.Do(func() {
			alarm = l.NewAlarm(ring)
			alarm.Set(time.Now())
		})
	}
	if got := g.Threads(); got != 1 {
		t.Errorf("there are %d threads without load, want 1", got)
	}
	for range 2 {
		stop := busyLoops(g.Loops())
		waitThreads(t, g, n)
		stop()
		waitThreads(t, g, 1)
	}
	ended.Store(true)
	for range 2 { // a loop receives in the next round what was passed in this one
		for _, l := range g.Loops() {
			l.Do(func() {})
		}
	}
	if passed.Load() == 0 || received.Load() != passed.Load() {
		t.Errorf("%d datagrams passed, %d received", passed.Load(), received.Load())
	}
	for _, l := range g.Loops() {
		l.Close()
	}
	waitThreads(t, g, 0)
}

// TestPassOnOneThread passes a datagram between loops that share a thread: the receiver is called immediately, what it sends leaves with
// the round, and what it passes on arrives.
func TestPassOnOneThread(t *testing.T) {
	g, err := NewGroup(2, Options{})
	if err != nil {
		t.Fatal(err)
	}
	first, second := g.Loops()[0], g.Loops()[1]
	defer second.Close()
	defer first.Close()
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	s, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	passedOn := make(chan struct{})
	var calls atomic.Int64
	first.Do(func() {
		first.Pass(second, receiver(func() {
			calls.Add(1)
			second.Send(s, []byte("sent"), udp.AddrPortOf(sink.LocalAddr()), netip.Addr{}, 0, 0, nil)
			second.Pass(first, receiver(func() { calls.Add(1); close(passedOn) }), netip.AddrPort{}, []byte("x"))
		}), netip.AddrPort{}, []byte("x"))
		if n := calls.Load(); n != 1 {
			t.Errorf("%d receivers were called during Pass, want 1", n)
		}
	})
	if held := second.mail.held.Load(); held != 0 {
		t.Errorf("the mailbox counts %d bytes, want 0", held)
	}
	b := make([]byte, 10)
	_ = sink.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := sink.Read(b); err != nil || string(b[:n]) != "sent" {
		t.Errorf("got %q, %v", b[:n], err)
	}
	<-passedOn
}

// TestBusyShare checks that a thread that waits for a processor is not taken for one that has much to do.
func TestBusyShare(t *testing.T) {
	for _, tt := range []struct {
		waited, cpu time.Duration
		want        float64
	}{
		{90 * time.Millisecond, 10 * time.Millisecond, 0.1},
		{40 * time.Millisecond, 60 * time.Millisecond, 0.6},
		{30 * time.Millisecond, 20 * time.Millisecond, 0.2}, // others had the processor for half of the time
		{time.Millisecond, 40 * time.Millisecond, 0.99},     // it cannot keep up
	} {
		if got := busyShare(100*time.Millisecond, tt.waited, tt.cpu); got != tt.want {
			t.Errorf("waited %v, used %v: busy for %v, want %v", tt.waited, tt.cpu, got, tt.want)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin, before := time.Now(), cpuTime()
	for time.Since(begin) < 10*time.Millisecond {
	}
	if used := cpuTime() - before; used <= 0 || used > time.Since(begin) {
		t.Errorf("used %v of %v", used, time.Since(begin))
	}
}

type receiver func()

func (f receiver) Receive([]byte, netip.AddrPort, netip.Addr, time.Time) { f() }

// TestWithoutEpoll runs several loops on a thread without an epoll instance to wait for all of them.
func TestWithoutEpoll(t *testing.T) {
	g := new(Group)
	for range 2 {
		l, err := newLoop(Options{})
		if err != nil {
			t.Fatal(err)
		}
		l.group, l.index = g, len(g.loops)
		g.loops = append(g.loops, l)
	}
	th := &thread{group: g, loops: g.loops[:2:2], epoll: -1}
	var ran atomic.Int64
	for _, l := range g.loops {
		l.Post(func() { ran.Add(1) })
	}
	for range 3 {
		th.wait(time.Now())
		for _, l := range th.loops {
			l.round(time.Now())
		}
	}
	if ran.Load() != 2 {
		t.Errorf("%d calls, want 2", ran.Load())
	}
	for _, l := range g.loops {
		l.release()
	}
}

// TestEpollComesBack simulates a temporary lack of descriptors while the loops of a thread change.
func TestEpollComesBack(t *testing.T) {
	g, err := NewGroup(2, Options{})
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	th := g.threads[0]
	g.mu.Unlock()
	l := g.Loops()[0]
	l.Do(th.release) // as if there had been none
	tick := time.NewTicker(sharePeriod / 2)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		blind := true
		l.Do(func() { blind = th.blind() })
		if !blind {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the thread still has no epoll instance")
		}
	}
	for _, l := range g.Loops() {
		l.Close()
	}
}
