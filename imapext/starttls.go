package imapext

import "bytes"

// decideStartTLS answers STARTTLS (RFC 9051 section 6.2.1), which concerns only the client's connection.
func (f *Filter) decideStartTLS() Event {
	switch {
	case len(bytes.TrimSpace(f.client.collected)) > 0:
		return f.answerStatus("BAD STARTTLS takes no arguments")
	case f.session.TLS:
		return f.answerStatus("BAD TLS is active already")
	case !f.offersStartTLS():
		return f.answerStatus("BAD STARTTLS is not available")
	case len(f.outstanding.tags) > 0 || f.backend.passing():
		// The backend's remaining responses belong before the OK, after which the client reads only TLS.
		return Wait
	}
	f.answerStatus("OK Begin TLS negotiation now")
	f.gated = true
	return StartTLS
}
