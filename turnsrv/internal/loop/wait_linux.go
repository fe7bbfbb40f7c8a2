package loop

import (
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// unannounced is the longest wait, in milliseconds, that bypasses Go's scheduler. A signal of the runtime ends it when the garbage
	// collector stops all goroutines. A wait that the scheduler knows of makes the runtime's monitoring thread wake up every few
	// microseconds for a while, which costs more than relaying a packet.
	unannounced = 10
	// slept is the duration of a wait above which the thread was put to sleep.
	slept = 5 * time.Microsecond
)

// blindly is how long a thread waits that has several loops but no epoll instance to wait for them.
const blindly = time.Millisecond

// wait waits until there is something to do, and sets Loop.ready. It reports whether it has waited for more packets first.
func (t *thread) wait(now time.Time) (gathered bool) {
	t.sleeps, t.began = 0, time.Time{}
	if t.any(func(l *Loop) bool { return l.suspended }) {
		t.waitSuspended()
		t.poll(0)
		return false
	}
	if t.any((*Loop).pending) {
		t.poll(0)
		return false
	}
	if d := t.gathering.pause(t.options.Gather, t.load.rate); d > 0 && t.busy {
		now = t.gather(d, now)
		if t.poll(0) > 0 || t.any((*Loop).hasMail) {
			return true
		}
		gathered = true
	}
	t.began = now
	t.setAsleep(true)
	t.sleep(now)
	t.setAsleep(false)
	return gathered
}

// count counts a wait from before to now.
func (t *thread) count(before, now time.Time) {
	t.waited += now.Sub(before)
	if !t.began.IsZero() && now.Sub(t.began) > slept {
		t.sleeps++
	}
}

func (t *thread) setAsleep(asleep bool) {
	for _, l := range t.loops {
		l.asleep.Store(asleep)
	}
}

// sleep waits until there is something to do, or another goroutine wakes the thread.
func (t *thread) sleep(now time.Time) {
	if t.any((*Loop).hasMail) {
		t.poll(0)
		return
	}
	if t.blind() {
		t.gather(blindly, now)
		t.poll(0)
		return
	}
	timeout := t.untilAlarm(now)
	if t.options.Unannounced && t.load.rate >= unannouncedFrom && timeout != 0 {
		if t.poll(unannounced) > 0 || timeout == unannounced {
			return
		}
		timeout = t.untilAlarm(time.Now())
	} else if t.poll(0) > 0 {
		return
	}
	for timeout != 0 {
		// This wait may be long, so it does not bypass the scheduler. A signal may end it.
		fd, events := t.waitable()
		n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
			uintptr(len(events)), uintptr(timeout), 0, 0)
		if errno == 0 {
			t.set(int(n))
			return
		}
		timeout = t.untilAlarm(time.Now())
	}
}

// any reports whether f returns true for any loop.
func (t *thread) any(f func(l *Loop) bool) bool {
	return slices.ContainsFunc(t.loops, f)
}

func (l *Loop) hasMail() bool { return !l.mail.empty() }

// untilAlarm returns the time until the next alarm in milliseconds, or -1 if there is none.
func (t *thread) untilAlarm(now time.Time) int {
	var next time.Time
	for _, l := range t.loops {
		if first := l.alarms.next(); !first.IsZero() && (next.IsZero() || first.Before(next)) {
			next = first
		}
	}
	if next.IsZero() {
		return -1
	}
	return int(max((next.Sub(now)+time.Millisecond-1)/time.Millisecond, 0))
}

// waitable returns the epoll instance to wait for, that of the only loop or that of all loops, and a buffer for its events.
func (t *thread) waitable() (epoll int, events []unix.EpollEvent) {
	if len(t.loops) == 1 {
		return t.loops[0].epoll, t.loops[0].events
	}
	return t.epoll, t.events
}

// poll waits for at most the given number of milliseconds, with a system call that bypasses Go's scheduler: see package udp.
func (t *thread) poll(milliseconds int) (n int) {
	if t.blind() {
		for _, l := range t.loops {
			l.ready = poll(l.epoll, l.events, 0)
			n += l.ready
		}
		return n
	}
	fd, events := t.waitable()
	n = poll(fd, events, milliseconds)
	t.set(n)
	return n
}

// set sets Loop.ready after a wait that returned n events.
func (t *thread) set(n int) {
	if len(t.loops) == 1 {
		t.loops[0].ready = n
		return
	}
	for _, l := range t.loops {
		l.ready = 0
	}
	for _, event := range t.events[:n] {
		l := t.group.loops[event.Fd]
		l.ready = poll(l.epoll, l.events, 0)
	}
}

func poll(epoll int, events []unix.EpollEvent, milliseconds int) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(milliseconds), 0, 0)
	if errno != 0 { // EINTR
		return 0
	}
	return int(n)
}

// gather waits for d from now, so that more packets arrive. It returns the time after that.
func (t *thread) gather(d time.Duration, now time.Time) (after time.Time) {
	pause := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0) // a signal may end it early
	after = time.Now()
	t.sleeps++
	counts := &t.loops[0].counts
	counts.gathers.Store(counts.gathers.Load() + 1)
	counts.gather.Store(counts.gather.Load() + uint64(after.Sub(now)))
	return after
}
