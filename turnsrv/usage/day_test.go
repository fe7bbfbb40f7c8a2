package usage

import (
	"strconv"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
)

var _ Meter = (*Day)(nil)

func user(name string) User { return User{Subject: credential.Subject{Name: name}} }

func bytes(n uint64) Total { return Total{ToPeer: event.Traffic{Packets: 1, Bytes: n}} }

func TestDay(t *testing.T) {
	var ended map[User]Total
	var of time.Time
	d := Day{Ended: func(day time.Time, totals map[User]Total) { of, ended = day, totals }}
	// A day of UTC, whatever the local time zone is.
	evening := time.Date(2026, 11, 30, 23, 59, 0, 0, time.UTC).In(time.FixedZone("", -8*3600))
	d.Add(user("alice"), bytes(100), evening)
	if got := d.Add(user("alice"), Total{ToClient: event.Traffic{Packets: 1, Bytes: 11}}, evening.Add(time.Second)); got != 111 {
		t.Errorf("alice has relayed %d bytes today, want 111", got)
	}
	if a, b := d.Today(user("alice"), evening), d.Today(user("bob"), evening); a != 111 || b != 0 {
		t.Errorf("today: alice %d, bob %d, want 111 and 0", a, b)
	}
	if got := d.Today(user("alice"), evening.Add(time.Minute)); got != 0 || ended != nil {
		t.Errorf("after midnight: %d, want 0; ended: %v", got, ended)
	}
	if got := d.Add(user("alice"), bytes(5), evening.Add(time.Minute)); got != 5 {
		t.Errorf("after midnight: %d, want 5", got)
	}
	if total := ended[user("alice")]; !of.Equal(time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)) || total.Bytes() != 111 {
		t.Errorf("ended: %v, %v", of, ended)
	}
	// The clock is set back.
	if got := d.Add(user("alice"), bytes(5), evening); got != 10 {
		t.Errorf("after the clock was set back: %d, want 10", got)
	}
	if got := d.Today(user("alice"), evening); got != 10 {
		t.Errorf("after the clock was set back: %d, want 10", got)
	}
}

// TestManyUsers checks that a user with many credentials cannot make the meter forget somebody who has relayed more.
func TestManyUsers(t *testing.T) {
	var d Day
	now := time.Unix(1796031863, 0)
	d.Add(user("alice"), bytes(1000), now)
	for i := range 2 * MaxUsers {
		d.Add(user(strconv.Itoa(i)), bytes(1), now)
	}
	if got := d.Today(user("alice"), now); got != 1000 {
		t.Errorf("alice has relayed %d bytes today, want 1000", got)
	}
	if _, totals := d.Totals(); len(totals) != MaxUsers {
		t.Errorf("%d users are counted, want %d", len(totals), MaxUsers)
	}
}
