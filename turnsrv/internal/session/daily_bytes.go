package session

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

// meter returns what counts the traffic of users, or nil if nobody wants to know it. The caller has loaded the limit, because it must not
// change between this and its use.
func (s *Shared) meter(most int64) usage.Meter {
	if s.config.Meter != nil {
		return s.config.Meter
	}
	if most > 0 {
		return &s.day
	}
	return nil
}

// user returns whose traffic that of a is. Like the share of a quota, an anonymous subject has one for each source.
func (a *allocation) user() usage.User { return userOf(a.subject, a.client) }

func userOf(subject credential.Subject, client Client) usage.User {
	user := usage.User{Subject: subject}
	if subject.Anonymous {
		user.Source = limit.Host(client.Tuple.Client.Addr())
	}
	return user
}

// meterAddresses adds what the addresses have relayed since the last call to what their user has relayed today, and reports whether that is
// MaxBytesPerUserPerDay or more. Since packets are counted in any case, this costs nothing for each of them, but notices a limit up to
// JanitorPeriod late. It is called on the goroutine of the session.
func (s *Shared) meterAddresses(addresses []*relayedAddress, now time.Time) (atLimit bool) {
	most := s.limits.Load().MaxBytesPerUserPerDay
	meter := s.meter(most)
	for _, r := range addresses {
		total := usage.Total{ToPeer: r.toPeer.Snapshot(), ToClient: r.toClient.Snapshot()}
		relayed := usage.Total{ToPeer: total.ToPeer.Minus(r.metered.ToPeer), ToClient: total.ToClient.Minus(r.metered.ToClient)}
		r.metered = total
		if meter != nil && relayed != (usage.Total{}) {
			today := meter.Add(r.allocation.user(), relayed, now)
			atLimit = reached(today, most)
		}
	}
	return atLimit
}

// reached reports whether a user who has relayed a number of bytes today may relay no more. A most of zero is no limit.
func reached(today uint64, most int64) bool { return most > 0 && today >= uint64(most) }

// hasDailyBytes reports whether the user of r may relay more today.
func (s *Session) hasDailyBytes(r *request, now time.Time) bool {
	most := s.shared.limits.Load().MaxBytesPerUserPerDay
	if most == 0 || !reached(s.shared.meter(most).Today(userOf(r.subject, r.client), now), most) {
		return true
	}
	s.shared.logQuota(event.RefusedDailyBytes, now)
	return false
}
