package loop

import (
	"container/list"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/limit"
)

const (
	// roundTasks is the maximum number of tasks in a round. The most expensive task, an Allocate request, takes less than 100 µs.
	roundTasks = 8
	// maxLate and maxLateBytes limit the tasks that wait, and the memory that they refer to.
	maxLate      = 512
	maxLateBytes = 1 << 20
)

// Task is work that costs much more than relaying a packet. It is called on the goroutine of a loop.
type Task interface {
	Do(now time.Time)
	// Drop is called instead if too many tasks wait.
	Drop()
}

// late holds the tasks that wait until a round has sent its data, in order. If there are too many, a new task of the source network
// with the most is refused, and a new task of another network displaces the oldest one of that network. A flood therefore displaces
// only tasks of its own network.
type late struct {
	tasks list.List // of lateTask, oldest first
	crowd limit.Crowd[*list.Element]
	bytes int
}

type lateTask struct {
	Task
	size int
}

// admits reports whether a task that refers to size bytes for a client at addr can wait.
func (l *late) admits(addr netip.Addr, size int) bool {
	full := l.tasks.Len() >= maxLate || l.bytes+size > maxLateBytes
	return !full || !l.crowd.Leads(addr)
}

// add adds a task that refers to size bytes for a client at addr.
func (l *late) add(addr netip.Addr, size int, t Task) {
	place := l.tasks.PushBack(lateTask{t, size})
	l.crowd.Add(place, addr)
	l.bytes += size
	for l.tasks.Len() > maxLate || l.bytes > maxLateBytes {
		victim, _ := l.crowd.First()
		l.remove(victim).Drop()
	}
}

// next removes and returns the oldest task. It returns nil if there is none.
func (l *late) next() Task {
	if first := l.tasks.Front(); first != nil {
		return l.remove(first)
	}
	return nil
}

func (l *late) remove(place *list.Element) Task {
	t := l.tasks.Remove(place).(lateTask)
	l.crowd.Remove(place)
	l.bytes -= t.size
	return t.Task
}

func (l *late) empty() bool { return l.tasks.Len() == 0 }
