package loop

import "golang.org/x/sys/unix"

// suspendedWait is how long, in milliseconds, a thread with a suspended loop waits at most for what is posted to it. It does not wait
// for anything else, because what is ready remains so, and would end every wait.
const suspendedWait = 10

// waitSuspended waits until something is posted to a loop.
func (t *thread) waitSuspended() {
	t.setAsleep(true)
	defer t.setAsleep(false)
	if t.any((*Loop).hasMail) {
		return
	}
	wakes := make([]unix.PollFd, len(t.loops))
	for i, l := range t.loops {
		wakes[i] = unix.PollFd{Fd: int32(l.wake), Events: unix.POLLIN}
	}
	_, _ = unix.Poll(wakes, suspendedWait) // a signal may end it early
}

// Suspend makes the loops neither receive from sockets nor run alarms, and returns when they have done everything that they had begun.
// What arrives waits in the sockets. The loops still run what is posted to them. Suspend must not be called on the goroutine of a loop.
func (g *Group) Suspend() {
	g.suspend(true)
	// What a loop passes to another one leaves it at the end of a round, and what that sends at the end of the next one.
	for rounds, busy := 0, true; busy || rounds < settleRounds; rounds++ {
		busy = false
		for _, l := range g.loops {
			l.Do(func() { busy = busy || !l.late.empty() })
		}
	}
}

// settleRounds is the number of rounds after which nothing is on its way between the loops of a group.
const settleRounds = 4

// Resume makes the loops go on after Suspend.
func (g *Group) Resume() { g.suspend(false) }

func (g *Group) suspend(suspended bool) {
	for _, l := range g.loops {
		l.Do(func() { l.suspended = suspended })
	}
}
