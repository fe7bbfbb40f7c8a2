//go:build !linux

package loop

import (
	"errors"
	"net/netip"
	"time"
)

// Loop does not exist on this system.
type Loop struct{}

// Group does not exist on this system.
type Group struct{}

// Supported returns o.
func (o Options) Supported() (Options, error) { return o, nil }

// NewGroup returns an empty group.
func NewGroup(int, Options) (*Group, error) { return new(Group), nil }

// Loops returns no loops.
func (*Group) Loops() []*Loop { return nil }

// Threads returns 0.
func (*Group) Threads() int { return 0 }

// New returns errors.ErrUnsupported.
func New(Options) (*Loop, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (*Loop) Close() {}

// Post does nothing.
func (*Loop) Post(func()) {}

// Counts returns no counts.
func (*Loop) Counts() Counts { return Counts{} }

// Pass refuses the datagram.
func (*Loop) Pass(*Loop, Receiver, netip.AddrPort, []byte) bool { return false }

// NewAlarm returns an alarm that is never due.
func (*Loop) NewAlarm(f func(now time.Time)) *Alarm { return &Alarm{f: f} }

// Do does nothing.
func (*Loop) Do(func()) {}

// RemoveAlarm does nothing.
func (*Loop) RemoveAlarm(*Alarm) {}

// Admit reports that a task may be done at once.
func (*Loop) Admit() bool { return true }

// MayWait reports that no task can wait.
func (*Loop) MayWait(netip.Addr, int) bool { return false }

// Later does nothing.
func (*Loop) Later(netip.Addr, int, Task) {}

// Share does not exist on this system.
type Share struct{}

// MayTake reports true.
func (*Loop) MayTake(*Share) bool { return true }

// Suspend does nothing.
func (g *Group) Suspend() {}

// Resume does nothing.
func (g *Group) Resume() {}
