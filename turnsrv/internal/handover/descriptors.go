package handover

import (
	"fmt"
	"time"
)

// maxDelay is how long a state may be on its way. A longer time means that the clock was set meanwhile.
const maxDelay = time.Minute

// Outgoing is a state that is being taken, for a version of the encoding, and the descriptors that it refers to. They remain those of
// their owners.
type Outgoing struct {
	Version     int
	State       State
	Descriptors []int

	now time.Time
}

// NewOutgoing returns an empty state that is taken now.
func NewOutgoing(now time.Time, version int) *Outgoing {
	return &Outgoing{Version: version, State: State{At: now.Round(0)}, now: now}
}

// Add adds a descriptor to the list, and returns what a state calls it.
func (o *Outgoing) Add(fd int) int {
	o.Descriptors = append(o.Descriptors, fd)
	return len(o.Descriptors) - 1
}

// Until returns the time until t.
func (o *Outgoing) Until(t time.Time) time.Duration { return t.Sub(o.now) }

// Incoming is a state that another process has taken.
type Incoming struct {
	State *State

	descriptors []int // -1 for those that have been taken
	at          time.Time
}

// NewIncoming decodes a state whose descriptors this process has received. It arrives now. The descriptors remain those of the caller
// if it returns an error.
func NewIncoming(b []byte, descriptors []int, now time.Time) (*Incoming, error) {
	state, err := Decode(b)
	if err != nil {
		return nil, err
	}
	delay := now.Round(0).Sub(state.At)
	if delay < 0 || delay > maxDelay {
		delay = 0
	}
	return &Incoming{State: state, descriptors: descriptors, at: now.Add(-delay)}, nil
}

// Take returns a descriptor, which is the caller's from then on. It may be called concurrently for different ones.
func (in *Incoming) Take(i int) (fd int, err error) {
	if i < 0 || i >= len(in.descriptors) || in.descriptors[i] < 0 {
		return -1, fmt.Errorf("%w: it names descriptor %d of %d", ErrDamaged, i, len(in.descriptors))
	}
	fd, in.descriptors[i] = in.descriptors[i], -1
	return fd, nil
}

// Rest calls drop with the descriptors that nobody has taken.
func (in *Incoming) Rest(drop func(fd int)) {
	for i, fd := range in.descriptors {
		if fd >= 0 {
			drop(fd)
		}
		in.descriptors[i] = -1
	}
}

// At returns when the state was taken, plus d, on the clock of this process.
func (in *Incoming) At(d time.Duration) time.Time { return in.at.Add(d) }
