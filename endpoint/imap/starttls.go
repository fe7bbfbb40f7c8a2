package imap

import (
	"errors"
	"io"

	"github.com/mailturn/mailturn/endpoint/imap/upstream"
)

// startTLS performs the handshake after STARTTLS (RFC 9051 section 6.2.1). It returns false if the session has ended.
func (s *session) startTLS() bool {
	s.conn.EndPatience()
	defer s.conn.BeginPatience()
	tlsConn, err := s.handshake()
	if err != nil {
		s.debug("TLS handshake after STARTTLS", "err", err)
		return false
	}
	s.client.replace(tlsConn)
	s.origin.TLS = tlsConn.ConnectionState().Version
	if server := s.generation.config.Upstream; server != nil && server.ClientAddress == upstream.ClientAddressProxy2 {
		return s.redial()
	}
	s.filter.StartedTLS()
	return s.filter.WriteClient(s.client) == nil
}

// redial connects to the backend again after STARTTLS. The PROXY header, which comes first on a connection, told the server that the
// client has no TLS, so the server may refuse its password. The client has not logged in, so it has no state there to lose; it does
// not see the second greeting. redial returns false if the session has ended.
func (s *session) redial() bool {
	s.part()
	backend, err := s.dial()
	if err != nil {
		s.backendUnavailable(err)
		return false
	}
	s.filter = s.newFilter(nil)
	greeting, rest, err := upstream.ReadGreeting(backend)
	if err == nil && upstream.IsPreauth(greeting) {
		err = errors.New("greeted with PREAUTH after STARTTLS, which the client cannot be told")
	}
	if err != nil {
		backend.Close()
		s.backendUnavailable(err)
		return false
	}
	s.filter.FromBackend(greeting)
	s.filter.WriteClient(io.Discard)
	s.filter.FromBackend(rest)
	s.join(backend)
	return s.filter.WriteClient(s.client) == nil
}
