package ledger

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/usage"
)

// State is what a Book has counted today, for the process that takes over.
type State struct {
	Day     time.Time `json:"day"`
	Counted []Counted `json:"counted"`
	Earlier []Entry   `json:"earlier"` // from the file

	totals map[usage.User]usage.Total // of Counted
}

// Delta is what a Book has counted since a State.
type Delta struct {
	Day     time.Time `json:"day"`
	Counted []Counted `json:"counted"`
}

// Counted is what a user has relayed.
type Counted struct {
	User  usage.User
	Total usage.Total
}

// State returns what was relayed today.
func (b *Book) State() State {
	day, totals := b.day.Totals()
	s := State{Day: day, totals: totals}
	for user, total := range totals {
		s.Counted = append(s.Counted, Counted{user, total})
	}
	if earlier := b.earlier.Load(); earlier.day.Equal(day) {
		s.Earlier = earlier.entries()
	}
	return s
}

// Since returns what was relayed since before was returned.
func (b *Book) Since(before State) Delta {
	day, totals := b.day.Totals()
	d := Delta{Day: day}
	if !day.Equal(before.Day) {
		before.totals = nil
	}
	for user, total := range totals {
		if was := before.totals[user]; was.Bytes() <= total.Bytes() { // otherwise the user was forgotten meanwhile
			total = usage.Total{ToPeer: total.ToPeer.Minus(was.ToPeer), ToClient: total.ToClient.Minus(was.ToClient)}
		}
		if total != (usage.Total{}) {
			d.Counted = append(d.Counted, Counted{user, total})
		}
	}
	return d
}

// Restore continues with what another process has counted, in place of what was read from the file.
func (b *Book) Restore(s State) {
	if s.Day.IsZero() || !b.counting.Load() {
		return
	}
	b.earlier.Store(&page{s.Day, rowsOf(s.Earlier)})
	b.Continue(Delta{s.Day, s.Counted})
}

// Continue adds what another process has counted since the state that was restored.
func (b *Book) Continue(d Delta) {
	if d.Day.IsZero() || !b.counting.Load() {
		return
	}
	for _, c := range d.Counted {
		b.day.Add(c.User, c.Total, d.Day)
	}
	b.changed.Store(true)
}
