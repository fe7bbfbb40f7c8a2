package link

import (
	"container/list"
	"time"
)

// expiry ends the streams of an event loop that have had no allocation for too long. It is owned by the goroutine of the loop. All
// streams get the same time, so the one that was set first is due first.
type expiry struct {
	alarm func(time.Time) // sets the time at which run is called
	due   list.List       // of expiring, the first one due in front
	of    map[*stream]*list.Element
}

type expiring struct {
	stream *stream
	at     time.Time
}

// set makes s end at the given time, which must not precede that of any other stream.
func (e *expiry) set(s *stream, at time.Time) {
	e.remove(s)
	if e.of == nil {
		e.of = make(map[*stream]*list.Element)
	}
	e.of[s] = e.due.PushBack(expiring{s, at})
	e.schedule()
}

func (e *expiry) remove(s *stream) {
	if element := e.of[s]; element != nil {
		e.due.Remove(element)
		delete(e.of, s)
		e.schedule()
	}
}

func (e *expiry) schedule() {
	if front := e.due.Front(); front != nil {
		e.alarm(front.Value.(expiring).at)
	} else {
		e.alarm(time.Time{})
	}
}

// run calls end for the streams that are due.
func (e *expiry) run(now time.Time, end func(*stream)) {
	for front := e.due.Front(); front != nil && !now.Before(front.Value.(expiring).at); front = e.due.Front() {
		s := front.Value.(expiring).stream
		e.remove(s)
		end(s)
	}
	e.schedule()
}
