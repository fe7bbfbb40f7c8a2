package turnsrv

import (
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// client is who sent a message. It is comparable: over streams the connection belongs to it, because a client may come
// back from the same address before its old connection is known to be dead.
type client struct {
	tuple  FiveTuple
	stream connection // nil over UDP
}

// front serves the clients of one link. Its fields belong to the goroutine that serves the
// link, except where a comment says otherwise.
type front struct {
	shared *shared
	link   link

	allocations map[client]*allocation
	request     request      // scratch
	out         stun.Builder // scratch: answers to clients
	alarm       time.Time    // when the janitor comes; zero while there is nothing to watch

	strangers strangers

	superseded superseded // filled by other fronts
}

func newFront(shared *shared, l link) *front {
	return &front{
		shared:      shared,
		link:        l,
		allocations: make(map[client]*allocation),
	}
}

// handle takes one message of a client: a datagram, or one frame of a stream.
func (f *front) handle(b []byte, from client, now time.Time) {
	if answer := f.fromClient(b, from, now); answer != nil {
		f.reply(answer, from, now)
	}
}

// gone ends the allocation of a client whose connection has ended.
func (f *front) gone(from client, now time.Time) {
	if a := f.allocations[from]; a != nil {
		f.endAddresses(a.addresses, EndedConnection, now)
	}
}

// tick has the janitor come if it is time, and ends the allocations whose place was taken from other fronts.
func (f *front) tick(now time.Time) {
	f.onAlarm(now)
	f.endSuperseded(now)
}

// end ends all allocations.
func (f *front) end(now time.Time) {
	for _, a := range f.allocations {
		f.endAddresses(a.addresses, EndedServer, now)
	}
}

// fromClient takes one message of a client: a datagram, or one frame of a stream. Data it sends on. It returns an answer for
// the client, if there is one, which is valid until the next call.
func (f *front) fromClient(b []byte, from client, now time.Time) (answer []byte) {
	a := f.current(from, now)
	if a != nil {
		a.silence.hear(now)
	}
	if len(b) > 0 && stun.IsChannelData(b[0]) {
		f.channelData(b, from, a, now)
		return nil
	}
	message, err := stun.Parse(b)
	if err != nil {
		f.drop(DropMalformed, from, now)
		return nil
	}
	r := &f.request
	switch {
	case message.Class == stun.ClassRequest && slices.Contains(requestMethods[:], message.Method):
		r.read(message, from, now)
		return f.answer(r, a, now)
	case message.Class == stun.ClassIndication && message.Method == stun.MethodSend:
		r.read(message, from, now)
		f.sendIndication(r, a, now)
	case message.Class == stun.ClassIndication && message.Method == stun.MethodBinding:
		// A keep-alive, RFC 8445 section 11.
	default:
		f.drop(DropUnexpected, from, now)
	}
	return nil
}

// reply sends an answer to a client.
func (f *front) reply(answer []byte, to client, now time.Time) {
	if err := f.link.send(answer, to, control); err != nil {
		f.drop(dropReason(err), to, now)
	}
}

// answer handles a request in the order of RFC 8489 section 6.3: authentication, unknown attributes, and what the method
// asks.
func (f *front) answer(r *request, a *allocation, now time.Time) []byte {
	if r.method == stun.MethodBinding {
		if !f.mayAnswer(r, now) {
			return nil
		}
		return f.binding(r, now)
	}
	grant, refusal, ok := f.authenticate(r, a, now)
	if !ok {
		return refusal
	}
	if len(r.unknown) > 0 {
		return f.refuseUnknown(r, now)
	}
	if r.method == stun.MethodAllocate {
		return f.allocate(r, a, grant, now)
	}
	// RFC 8656 section 5: only the 5-tuple and the user that made the allocation may use it. Users of two realms may have one
	// name.
	if a == nil {
		return f.refuse(&r.origin, stun.CodeAllocationMismatch)
	}
	if a.username != r.origin.username || a.subject.Realm != r.origin.subject.Realm {
		return f.refuse(&r.origin, stun.CodeWrongCredentials)
	}
	switch r.method {
	case stun.MethodRefresh:
		return f.refresh(r, a, now)
	case stun.MethodCreatePermission:
		return f.createPermission(r, a, now)
	default:
		return f.channelBind(r, a, now)
	}
}
