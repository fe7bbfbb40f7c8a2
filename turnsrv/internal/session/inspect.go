package session

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
)

// inspectLimit is how many allocations a session describes at a time, so that packets do not wait for all of them.
const inspectLimit = 64

// occupied contains the sessions that have allocations. Safe for concurrent use.
type occupied struct {
	mu       sync.Mutex
	sessions map[*Session]struct{}
}

func (o *occupied) set(s *Session, has bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !has {
		delete(o.sessions, s)
		return
	}
	if o.sessions == nil {
		o.sessions = make(map[*Session]struct{})
	}
	o.sessions[s] = struct{}{}
}

func (o *occupied) list() []*Session {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.sessions))
}

// asked contains functions that other goroutines want the session to call. Safe for concurrent use.
type asked struct {
	mu        sync.Mutex
	functions []func(now time.Time)
	ended     bool // no function is called any more
}

// add reports whether f will be called.
func (a *asked) add(f func(now time.Time)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended {
		a.functions = append(a.functions, f)
	}
	return !a.ended
}

// take returns the functions that have not been called yet. If last is true, no more are accepted.
func (a *asked) take(last bool) []func(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := a.functions
	a.functions, a.ended = nil, a.ended || last
	return taken
}

// callAsked calls the functions that other goroutines want called.
func (s *Session) callAsked(now time.Time, last bool) {
	for _, f := range s.asked.take(last) {
		f(now)
	}
}

// ask calls f on the goroutine of the session and waits for it. If the session has ended, it does not call f. ask must not be
// called on the goroutine of a session.
func (s *Session) ask(ctx context.Context, f func(now time.Time)) error {
	called := make(chan struct{})
	if !s.asked.add(func(now time.Time) { defer close(called); f(now) }) {
		return nil
	}
	s.link.Wake()
	select {
	case <-called:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// visit calls f for each allocation of all sessions, in no order, on the goroutine of its session. An allocation that has ended
// since has no addresses. f must not block, and visit must not be called on such a goroutine. Safe for concurrent use.
func (s *Shared) visit(ctx context.Context, f func(a *allocation, now time.Time)) error {
	for _, session := range s.occupied.list() {
		var allocations []*allocation
		if err := session.ask(ctx, func(time.Time) { allocations = slices.Collect(session.allocations.all) }); err != nil {
			return err
		}
		for some := range slices.Chunk(allocations, inspectLimit) {
			err := session.ask(ctx, func(now time.Time) {
				for _, a := range some {
					f(a, now)
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Inspect describes the allocations of all sessions, in no order. It ends those for which end returns true, with all their relayed
// addresses, and returns only those. If end is nil, it ends none and returns all. end is called on the goroutines of the sessions
// and must not block. Inspect must not be called on one of these goroutines. Safe for concurrent use.
func (s *Shared) Inspect(ctx context.Context, end func(event.Allocation) bool) ([]event.Allocation, error) {
	var found []event.Allocation
	err := s.visit(ctx, func(a *allocation, now time.Time) {
		descriptions := a.describe(now)
		if end == nil || slices.ContainsFunc(descriptions, end) {
			found = append(found, descriptions...)
			if end != nil {
				a.session.endAddresses(a.addresses, event.EndedByOperator, now)
			}
		}
	})
	if err != nil {
		return nil, err // found is not read: the session may still call the function
	}
	return found, nil
}

// describe returns a description for each relayed address that has not expired. It is called on the goroutine of the session.
func (a *allocation) describe(now time.Time) (descriptions []event.Allocation) {
	a.sweepKernel(now)
	peers, channels := 0, 0
	for _, p := range a.peers.permissions.all() {
		if now.Before(p.expires) {
			peers++
		}
	}
	for _, c := range a.peers.channels.all() {
		if c.live(now) {
			channels++
		}
	}
	shared := a.session.shared
	for _, address := range a.addresses {
		if expires := shared.moment(address.expires, now); now.Before(expires) {
			descriptions = append(descriptions, event.Allocation{
				Tuple: a.client.Tuple, Username: a.username, Subject: a.subject, Relayed: address.conn.Relayed(),
				Made: time.Unix(0, a.since), Expires: expires, Peers: peers, Channels: channels,
				ToPeer: address.toPeer.Snapshot(), ToClient: address.toClient.Snapshot(), Dropped: address.drops(),
			})
		}
	}
	return descriptions
}
