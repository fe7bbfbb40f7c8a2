package loop

import (
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sharePeriod is the period over which the work of a thread is measured.
	sharePeriod = 100 * time.Millisecond
	// splitAbove is the share of its time above which a busy thread gives away some of its loops.
	splitAbove = 0.75
	// saturated is the share of its time without waits above which a thread cannot keep up, even if it gets little CPU time.
	saturated = 0.95
	// mergeBelow is the sum of the shares of two threads below which they become one.
	mergeBelow = 0.5
)

// thread runs loops. It is a goroutine that is locked to its thread, because it changes the thread's timer slack.
type thread struct {
	group   *Group
	options Options
	loops   []*Loop // changed by the goroutine of the thread under Group.mu
	share   float64 // share of the last sharePeriod for which the thread was busy
	given   []*Loop // loops from another thread; guarded by Group.mu
	asked   atomic.Bool

	epoll     int // of the loops' epoll instances; -1 if there is only one loop, or if the system has no room for it
	events    []unix.EpollEvent
	load      load // of all loops
	gathering gathering
	sleeps    int           // in the last wait
	began     time.Time     // when the last wait began to wait for descriptors; zero if it did not
	busy      bool          // the last round had packets
	measured  time.Time     // start of the current sharePeriod
	waited    time.Duration // time spent waiting since then
	cpu       time.Duration // CPU time of the thread until then
}

func (t *thread) run() {
	runtime.LockOSThread()                             // never unlocked, so the thread ends with the goroutine
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // a wait to gather ends on time
	t.measured, t.cpu = time.Now(), cpuTime()
	t.epoll = -1
	t.arrange()
	for len(t.loops) > 0 {
		before := time.Now()
		gathered := t.wait(before)
		now := time.Now()
		t.count(before, now)
		packets, closed := 0, false
		for _, l := range t.loops {
			if l.ready > 0 || l.due(now) {
				l.gathered = gathered
				packets += l.round(now)
			}
			closed = closed || l.closed.Load() && !l.mail.posted.Load()
		}
		t.load.add(packets, now)
		t.gathering.add(t.sleeps, packets, t.load.rate, now)
		t.busy = packets > 0
		if closed || t.asked.Load() || now.Sub(t.measured) >= sharePeriod {
			t.reconsider(now)
		}
	}
	t.release()
}

// reconsider ends loops that were closed, takes over loops of other threads, and gives loops to other threads.
func (t *thread) reconsider(now time.Time) {
	g := t.group
	g.mu.Lock()
	before := slices.Clone(t.loops)
	t.loops = slices.DeleteFunc(t.loops, func(l *Loop) bool {
		ended := l.closed.Load() && !l.mail.posted.Load()
		if ended {
			l.thread.Store(nil)
			l.release()
			close(l.ended)
		}
		return ended
	})
	t.loops = append(t.loops, t.given...)
	t.given = nil
	t.asked.Store(false)
	if t.measure(now) {
		if t.share > splitAbove && len(t.loops) > 1 {
			g.splitLocked(t)
		} else if t.share < mergeBelow {
			g.mergeLocked(t)
		}
	}
	if len(t.loops) == 0 {
		g.leaveLocked(t)
	}
	g.mu.Unlock()
	if !slices.Equal(before, t.loops) || t.blind() {
		t.arrange()
	}
}

// measure reports whether a period has ended, and if so records the share of it for which the thread was busy.
func (t *thread) measure(now time.Time) bool {
	passed := now.Sub(t.measured)
	if passed < sharePeriod {
		return false
	}
	cpu := cpuTime()
	t.share = busyShare(passed, t.waited, cpu-t.cpu)
	t.measured, t.waited, t.cpu = now, 0, cpu
	return true
}

// busyShare returns the share of a period for which a thread that has waited and used CPU time was busy. On a busy machine, time in
// which the thread was ready to run and had no processor does not count, because a second thread would make it only more expensive,
// unless the thread has hardly waited: then it cannot keep up.
func busyShare(passed, waited, cpu time.Duration) float64 {
	if share := 1 - float64(waited)/float64(passed); share > saturated {
		return share
	}
	return float64(cpu) / float64(passed)
}

// cpuTime returns the CPU time that the calling thread has used.
func cpuTime() time.Duration {
	var used unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used) // cannot fail
	return time.Duration(used.Nano())
}

// arrange makes the thread wait for its current loops.
func (t *thread) arrange() {
	t.release()
	for _, l := range t.loops {
		l.ready = 0
		l.thread.Store(t)
	}
	if len(t.loops) < 2 {
		return
	}
	t.events = make([]unix.EpollEvent, len(t.loops))
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return
	}
	t.epoll = epoll
	for _, l := range t.loops {
		if unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, l.epoll, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.index)}) != nil {
			t.release()
			return
		}
	}
}

// blind reports whether the thread has several loops and no epoll instance to wait for them.
func (t *thread) blind() bool { return t.epoll < 0 && len(t.loops) > 1 }

// release closes the epoll instance.
func (t *thread) release() {
	if t.epoll >= 0 {
		_ = unix.Close(t.epoll)
	}
	t.epoll = -1
}
