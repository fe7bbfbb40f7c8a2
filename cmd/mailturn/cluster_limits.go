package main

import (
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

// sharedLimits are the limits of users over all relays of a cluster, for the relay that this process announces. It implements
// usage.Holdings and usage.Meter. Anonymous users are counted on each relay separately: their addresses tell them apart.
type sharedLimits struct {
	*cluster.Limits
	day  usage.Day   // of this process, because the cluster knows what earlier ones have relayed
	book usage.Meter // is told, too
	// bytes is set while the bytes of a day are limited.
	bytes atomic.Bool
}

// limitName is the name of a user in cluster.Limits.
func limitName(user credential.Subject) string { return user.Realm + "\n" + user.Name }

// Hold implements usage.Holdings.
func (s *sharedLimits) Hold(user credential.Subject, held usage.Holding) {
	s.Limits.Hold(limitName(user), cluster.Holding(held))
}

// Addresses implements usage.Holdings.
func (s *sharedLimits) Addresses(user credential.Subject) int {
	return s.Limits.Addresses(limitName(user))
}

// Calls implements usage.Holdings.
func (s *sharedLimits) Calls(user credential.Subject) (n, earlier int) {
	return s.Limits.Calls(limitName(user))
}

// Add implements usage.Meter.
func (s *sharedLimits) Add(user usage.User, relayed usage.Total, now time.Time) (today uint64) {
	s.book.Add(user, relayed, now)
	today = s.day.Add(user, relayed, now)
	if user.Subject.Anonymous || !s.bytes.Load() {
		return today
	}
	name, day := limitName(user.Subject), cluster.Day(now)
	s.SetBytes(name, day, today)
	return today + s.Bytes(name, day)
}

// Today implements usage.Meter.
func (s *sharedLimits) Today(user usage.User, now time.Time) uint64 {
	today := s.day.Today(user, now)
	if user.Subject.Anonymous || !s.bytes.Load() {
		return today
	}
	return today + s.Bytes(limitName(user.Subject), cluster.Day(now))
}
