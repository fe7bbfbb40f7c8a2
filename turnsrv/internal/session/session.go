package session

import (
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Client is who sent a message. It is comparable: over streams the connection belongs to it, because a client may come
// back from the same address before its old connection is known to be dead.
type Client struct {
	Tuple  event.FiveTuple
	Stream Connection // nil over UDP
}

// Session serves the clients of one link. It belongs to the goroutine that serves the link, except where a comment says otherwise.
type Session struct {
	shared *Shared
	link   Link

	allocations map[Client]*allocation
	request     request      // scratch
	out         stun.Builder // scratch: answers to clients
	alarm       time.Time    // when the janitor comes; zero while there is nothing to watch

	strangers strangers

	superseded superseded // filled by other sessions
}

// New returns the session of one link.
func New(shared *Shared, l Link) *Session {
	return &Session{shared: shared, link: l, allocations: make(map[Client]*allocation)}
}

// Handle takes one message of a client: a datagram, or one frame of a stream.
func (s *Session) Handle(b []byte, from Client, now time.Time) {
	if answer := s.fromClient(b, from, now); answer != nil {
		s.reply(answer, from, now)
	}
}

// Gone ends the allocation of a client whose connection has ended.
func (s *Session) Gone(from Client, now time.Time) {
	if a := s.allocations[from]; a != nil {
		s.endAddresses(a.addresses, event.EndedConnection, now)
	}
}

// Tick has the janitor come if it is time, and ends the allocations whose place was taken from other sessions.
func (s *Session) Tick(now time.Time) {
	s.onAlarm(now)
	s.endSuperseded(now)
}

// End ends all allocations.
func (s *Session) End(now time.Time) {
	for _, a := range s.allocations {
		s.endAddresses(a.addresses, event.EndedServer, now)
	}
}

// fromClient takes one message of a client: a datagram, or one frame of a stream. Data it sends on. It returns an answer for
// the client, if there is one, which is valid until the next call.
func (s *Session) fromClient(b []byte, from Client, now time.Time) (answer []byte) {
	a := s.current(from, now)
	if a != nil {
		a.silence.Hear(now)
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

// reply sends an answer to a client.
func (s *Session) reply(answer []byte, to Client, now time.Time) {
	if err := s.link.Send(answer, to, Control); err != nil {
		s.drop(dropReason(err), to, now)
	}
}

// answer handles a request in the order of RFC 8489 section 6.3: authentication, unknown attributes, and what the method
// asks.
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
	// RFC 8656 section 5: only the 5-tuple and the user that made the allocation may use it. Users of two realms may have one
	// name.
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
