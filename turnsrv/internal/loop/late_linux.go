package loop

import (
	"net/netip"
	"time"
)

// Admit reports whether the caller may do a task immediately, because this round has done only few and none is waiting. Otherwise
// the caller passes it to Later. Requests are therefore processed in order with all other messages, unless there are so many that
// data would wait for them.
func (l *Loop) Admit() bool {
	if l.tasks == roundTasks || !l.late.empty() {
		return false
	}
	l.tasks++
	return true
}

// MayWait reports whether Later can be called with a task for a client at addr that refers to size bytes. It is cheap, so that
// dropping a task is.
func (l *Loop) MayWait(addr netip.Addr, size int) bool { return l.late.admits(addr, size) }

// Later makes the loop do a task for a client at addr after the data of this round, or of a later one, has been sent. The task
// refers to size bytes.
func (l *Loop) Later(addr netip.Addr, size int, t Task) { l.late.add(addr, size, t) }

// doLate does the waiting tasks for which this round has time. It reports whether there were any.
func (l *Loop) doLate() (some bool) {
	if l.late.empty() {
		l.tasks = 0
		return false
	}
	now := time.Now()
	for ; l.tasks < roundTasks; l.tasks++ {
		t := l.late.next()
		if t == nil {
			break
		}
		l.guard(func() { t.Do(now) })
		some = true
	}
	l.tasks = 0
	return some
}
