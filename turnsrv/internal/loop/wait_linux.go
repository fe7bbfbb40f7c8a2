package loop

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unannounced is the longest wait, in milliseconds, that Go's scheduler does not know of. The garbage collector may have to wait
// as long, although a signal of the runtime normally ends the wait.
const unannounced = 1

// wait waits until there is something to do and returns the number of ready descriptors.
func (l *Loop) wait() (n int) {
	l.gathered = false
	if l.turns.waiting() || !l.late.empty() {
		return l.poll(0)
	}
	if d := l.load.gather(l.options.Gather); d > 0 && l.busy {
		l.gather(d)
		if n = l.poll(0); n > 0 || !l.mail.empty() {
			return n
		}
	}
	l.asleep.Store(true)
	defer l.asleep.Store(false)
	if !l.mail.empty() {
		return l.poll(0)
	}
	timeout := l.untilAlarm(time.Now())
	if l.options.Unannounced && l.load.rate >= unannouncedFrom && timeout != 0 {
		if n = l.poll(unannounced); n > 0 || timeout == unannounced {
			return n
		}
		timeout = l.untilAlarm(time.Now())
	} else if n = l.poll(0); n > 0 {
		return n
	}
	for timeout != 0 {
		// The scheduler is told of this wait, because it may be long.
		n, err := unix.EpollWait(l.epoll, l.events, timeout)
		if err != unix.EINTR {
			return max(n, 0)
		}
		timeout = l.untilAlarm(time.Now())
	}
	return 0
}

// untilAlarm returns the time until the next alarm in milliseconds, or -1 if there is none.
func (l *Loop) untilAlarm(now time.Time) int {
	next := l.alarms.next()
	if next.IsZero() {
		return -1
	}
	return int(max((next.Sub(now)+time.Millisecond-1)/time.Millisecond, 0))
}

// poll waits for at most the given number of milliseconds, without telling Go's scheduler: see package udp.
func (l *Loop) poll(milliseconds int) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(unsafe.SliceData(l.events))),
		uintptr(len(l.events)), uintptr(milliseconds), 0, 0)
	if errno != 0 { // EINTR
		return 0
	}
	return int(n)
}

// gather lets packets arrive for a while.
func (l *Loop) gather(d time.Duration) {
	before := time.Now()
	pause := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0) // a signal may end it early
	l.gathered = true
	l.counts.gathers.Store(l.counts.gathers.Load() + 1)
	l.counts.gather.Store(l.counts.gather.Load() + uint64(time.Since(before)))
}
