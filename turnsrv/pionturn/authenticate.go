package pionturn

import (
	"net"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// authenticate is a turn.AuthHandler, RFC 8489 section 9.2.4.
func (s *Server) authenticate(username, realm string, client net.Addr) (key []byte, ok bool) {
	if realm != s.config.Realm {
		return nil, false
	}
	grant, ok := s.config.Authenticator.Lookup(username, realm)
	now := time.Now()
	message := s.messageOf(client)
	switch {
	case !ok || len(grant.Keys) == 0 || now.Before(grant.NotBefore):
		return nil, false
	case !grant.Expires.IsZero() && !now.Before(grant.Expires) && !s.goesOn(grant, client, message, now):
		return nil, false
	}
	return signedWith(grant.Keys, message).Value, true
}

// goesOn reports whether a request is accepted although its credential has expired: if the client has an allocation, for up to
// ExpiredGrace.
func (s *Server) goesOn(grant credential.Grant, client net.Addr, message stun.Message, now time.Time) bool {
	return message.Method != stun.MethodAllocate && s.quota.has(udp.AddrPortOf(client)) && now.Before(grant.Expires.Add(s.config.ExpiredGrace))
}

// signedWith returns the key that the message is signed with, or the first one if none matches or the message is unknown. pion asks
// for a single key, but there are two during the rotation of a secret.
func signedWith(keys []credential.Key, message stun.Message) credential.Key {
	for _, key := range keys[1:] {
		if message.VerifyIntegrity(key.Value) {
			return key
		}
	}
	return keys[0]
}

// take records b as the message that pion is processing for a client. pion passes the same pointer, client, to its handlers. b must
// not change until forget is called.
func (s *Server) take(client net.Addr, b []byte) {
	if len(b) > 0 && b[0]&0xC0 == 0 { // STUN, RFC 7983
		s.inHand.Store(client, b)
	}
}

// forget records that pion has processed the message of client, if there is one.
func (s *Server) forget(client net.Addr) {
	if client != nil {
		s.inHand.Delete(client)
	}
}

// messageOf returns the message that pion is processing for a client. If the message did not come from a socket of this package, it
// returns the zero Message, which no key verifies.
func (s *Server) messageOf(client net.Addr) stun.Message {
	b, ok := s.inHand.Load(client)
	if !ok {
		return stun.Message{}
	}
	m, err := stun.Parse(b.([]byte))
	if err != nil { // pion is less strict
		return stun.Message{}
	}
	return m
}
