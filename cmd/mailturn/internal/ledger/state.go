package ledger

import (
	"encoding/json"
	"time"

	"github.com/mailturn/mailturn/turnsrv/usage"
)

// state is what was relayed today, for the process that takes over.
type state struct {
	Day     time.Time `json:"day"`
	Counted []counted `json:"counted"`
	Earlier []Entry   `json:"earlier"` // from the file
}

type counted struct {
	User  usage.User
	Total usage.Total
}

// MarshalJSON returns what was relayed today, so that another process can go on with it.
func (b *Book) MarshalJSON() ([]byte, error) {
	day, totals := b.day.Totals()
	s := state{Day: day}
	for user, total := range totals {
		s.Counted = append(s.Counted, counted{user, total})
	}
	if earlier := b.earlier.Load(); earlier.day.Equal(day) {
		s.Earlier = earlier.entries()
	}
	return json.Marshal(s)
}

// UnmarshalJSON continues with what another process has counted, in place of what was read from the file.
func (b *Book) UnmarshalJSON(text []byte) error {
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if !b.counting.Load() || s.Day.IsZero() {
		return nil
	}
	b.earlier.Store(&page{s.Day, rowsOf(s.Earlier)})
	for _, c := range s.Counted {
		b.day.Add(c.User, c.Total, s.Day)
	}
	b.changed.Store(true)
	return nil
}
