package turnsrv

import "sync"

// quota counts allocations, from before they are made until after they are ended. Safe for concurrent use.
type quota struct {
	mu                 sync.Mutex // guards what follows
	max, maxPerSubject int        // 0 is no limit
	total              int
	bySubject          map[string]int
	empty              []chan struct{} // closed when total falls to 0
}

func newQuota(max, maxPerSubject int) *quota {
	return &quota{max: max, maxPerSubject: maxPerSubject, bySubject: make(map[string]int)}
}

// limit replaces the limits. What is there already stays.
func (q *quota) limit(max, maxPerSubject int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.max, q.maxPerSubject = max, maxPerSubject
}

// take counts one more allocation for subject and reports whether there was room for it.
func (q *quota) take(subject string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.max > 0 && q.total >= q.max || q.maxPerSubject > 0 && q.bySubject[subject] >= q.maxPerSubject {
		return false
	}
	q.total++
	q.bySubject[subject]++
	return true
}

// give undoes one take.
func (q *quota) give(subject string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	if q.bySubject[subject]--; q.bySubject[subject] == 0 {
		delete(q.bySubject, subject)
	}
	if q.total == 0 {
		for _, waiting := range q.empty {
			close(waiting)
		}
		q.empty = nil
	}
}

func (q *quota) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}

// whenEmpty returns a channel that is closed when no allocation is left.
func (q *quota) whenEmpty() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := make(chan struct{})
	if q.total == 0 {
		close(waiting)
	} else {
		q.empty = append(q.empty, waiting)
	}
	return waiting
}
