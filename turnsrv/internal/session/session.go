package session

import (
	"net/netip"
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Client identifies the sender of a message. It is comparable. Over streams it includes the connection, because a client may
// reconnect from the same address before its old connection is known to be dead.
type Client struct {
	Tuple  event.FiveTuple
	Stream Connection // nil over UDP
}

// Session serves the clients of one link. It is owned by the goroutine that serves the link, except where a comment says
// otherwise.
type Session struct {
	shared *Shared
	link   Link
	loop   *loop.Loop // on which the session is; nil on the portable path
	apart  bool       // packets from peers arrive on other goroutines: the portable path

	allocations index[Client, *allocation]
	expiries    expiries      // of allocations
	restless    []*allocation // those that the janitor looks after: see stir
	request     request       // scratch
	out         stun.Builder  // scratch: responses to clients
	relayed     stun.Builder  // scratch: what relayed addresses send to clients: see builder
	alarm       time.Time     // next run of the janitor; zero while there are no allocations

	strangers strangers

	asked asked // filled by other goroutines
}

// New returns a session for a link. Its methods are called, and its relayed addresses are read, on the goroutine of on. If on is
// nil, relayed addresses have goroutines of their own.
func New(shared *Shared, l Link, on *loop.Loop) *Session {
	return &Session{shared: shared, link: l, loop: on, apart: on == nil, allocations: newIndex[Client, *allocation]()}
}

// builder returns a Builder for a message to a client about what has arrived at a relayed address. The caller passes it to release.
// Without a loop, relayed addresses have goroutines of their own.
func (s *Session) builder() *stun.Builder {
	if s.loop != nil {
		return &s.relayed
	}
	return s.shared.builders.Get().(*stun.Builder)
}

func (s *Session) release(b *stun.Builder) {
	if s.loop == nil {
		s.shared.builders.Put(b)
	}
}

// Handle processes one message of a client: a datagram, or one frame of a stream.
func (s *Session) Handle(b []byte, from Client, now time.Time) {
	defer s.survive()
	defer s.endOnPanic(from, now)
	if answer := s.fromClient(b, from, now); answer != nil {
		s.link.Send(answer, from, Control, 0, (*replies)(s))
	}
}

// endOnPanic ends the allocation of a client for which the session panics, because its state may be inconsistent. It then panics
// again; an event loop recovers from that, or survive without one.
func (s *Session) endOnPanic(from Client, now time.Time) {
	if value := recover(); value != nil {
		s.Gone(from, now)
		panic(value)
	}
}

// survive recovers from a panic where no event loop does.
func (s *Session) survive() {
	if s.loop != nil {
		return
	}
	if value := recover(); value != nil {
		s.shared.panicked(value)
	}
}

// Gone ends the allocation of a client whose connection was closed.
func (s *Session) Gone(from Client, now time.Time) {
	defer s.survive()
	if a := s.allocations.get(from); a != nil {
		s.endAddresses(a.addresses, event.EndedConnection, now)
	}
}

// Tick runs the janitor if it is due, and calls the functions that other goroutines want called.
func (s *Session) Tick(now time.Time) {
	defer s.survive()
	s.onAlarm(now)
	s.callAsked(now, false)
}

// End ends all allocations.
func (s *Session) End(now time.Time) {
	for a := range s.allocations.all {
		s.endAddresses(a.addresses, event.EndedServer, now)
	}
	s.callAsked(now, true)
}

// fromClient processes one message of a client: a datagram, or one frame of a stream. It relays data, and returns the response
// to a request, which is valid until the next call, or nil.
func (s *Session) fromClient(b []byte, from Client, now time.Time) (answer []byte) {
	a := s.current(from, now)
	if a != nil {
		a.silence.Hear(now.Sub(s.shared.start))
		if !s.loop.MayTake(&a.share) {
			a.addresses[0].drop(event.DropOverload, netip.AddrPort{}, nil)
			return nil
		}
	}
	if len(b) > 0 && stun.IsChannelData(b[0]) {
		s.channelData(b, from, a, now)
		return nil
	}
	message, err := stun.Parse(b)
	if err != nil {
		s.drop(event.DropMalformed, from, now)
		return nil
	}
	r := &s.request
	switch {
	case message.Class == stun.ClassRequest && slices.Contains(count.RequestMethods[:], message.Method):
		r.read(message, from, now)
		return s.answer(r, a, now)
	case message.Class == stun.ClassIndication && message.Method == stun.MethodSend:
		r.read(message, from, now)
		s.sendIndication(r, a, now)
	case message.Class == stun.ClassIndication && message.Method == stun.MethodBinding:
		// A keep-alive, RFC 8445 section 11.
	default:
		s.drop(event.DropUnexpected, from, now)
	}
	return nil
}

// replies reports responses that were not sent. It implements Sender.
type replies Session

// Sent implements Sender.
func (s *replies) Sent(_ int, err error) {
	if err != nil {
		(*Session)(s).drop(dropReason(err), Client{}, time.Now())
	}
}

// answer processes a request in the order of RFC 8489 section 6.3: authentication, unknown attributes, then the method.
func (s *Session) answer(r *request, a *allocation, now time.Time) []byte {
	if r.method == stun.MethodBinding {
		if !s.mayAnswer(r, now) {
			return nil
		}
		return s.binding(r, now)
	}
	grant, refusal, ok := s.authenticate(r, a, now)
	if !ok {
		return refusal
	}
	if len(r.unknown) > 0 {
		return s.refuseUnknown(r, now)
	}
	if r.method == stun.MethodAllocate {
		return s.allocate(r, a, grant, now)
	}
	// RFC 8656 section 5: only the user that made the allocation may use it. Users of different realms may share a name.
	if a == nil {
		return s.refuse(&r.origin, stun.CodeAllocationMismatch)
	}
	if a.username != r.origin.username || a.subject.Realm != r.origin.subject.Realm {
		return s.refuse(&r.origin, stun.CodeWrongCredentials)
	}
	switch r.method {
	case stun.MethodRefresh:
		return s.refresh(r, a, now)
	case stun.MethodCreatePermission:
		return s.createPermission(r, a, now)
	default:
		return s.channelBind(r, a, now)
	}
}
