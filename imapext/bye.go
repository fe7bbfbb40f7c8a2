package imapext

import "fmt"

// Quiet reports whether the session can be ended without losing anything: the client is between two commands or in IDLE, and the backend
// has answered every other command and is between two responses.
func (f *Filter) Quiet() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gated || f.backend.passing() {
		return false
	}
	between := f.client.state == commandBegin && len(f.client.head) == 0 ||
		f.client.state == exchange && f.pending.kind == pendingNone // an exchange has ended, and nothing followed
	return f.idling() || between && len(f.outstanding.tags) == 0
}

// Bye queues an untagged BYE (RFC 9051 section 7.1.5) for WriteClient, immediately or directly after the response that is passing.
// text may begin with a response code. Nothing from the backend follows it, and the session must be closed after that. During a TLS
// handshake, when the client can read nothing else, Bye queues nothing.
func (f *Filter) Bye(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gated {
		return
	}
	f.ended = true
	f.respond(fmt.Appendf(nil, "* BYE %s\r\n", text))
}
