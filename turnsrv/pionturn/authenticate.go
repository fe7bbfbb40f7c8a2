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

// goesOn reports whether an expired credential is good for a request all the same: for one that keeps a running allocation,
// for as long as ExpiredGrace.
func (s *Server) goesOn(grant credential.Grant, client net.Addr, message stun.Message, now time.Time) bool {
	return message.Method != stun.MethodAllocate && s.quota.has(udp.AddrPortOf(client)) && now.Before(grant.Expires.Add(s.config.ExpiredGrace))
}

// signedWith returns the key that a message was signed with, or the first one if it was signed with none of them or is not
// known. pion asks for one key, and a secret that is being rotated has two.
func signedWith(keys []credential.Key, message stun.Message) credential.Key {
	for _, key := range keys[1:] {
		if message.VerifyIntegrity(key.Value) {
			return key
		}
	}
	return keys[0]
}

// take notes the message in b as the one that pion works on for a client. pion passes client, the very pointer, to its
// handlers. b has to stay as it is until forget.
func (s *Server) take(client net.Addr, b []byte) {
	if len(b) > 0 && b[0]&0xC0 == 0 { // STUN, RFC 7983
		s.inHand.Store(client, b)
	}
}

// forget is for when pion is done with the message of client, if there is one.
func (s *Server) forget(client net.Addr) {
	if client != nil {
		s.inHand.Delete(client)
	}
}

// messageOf returns the message that pion works on for a client, or the zero Message, which no key has signed, if it did not
// come from a socket of this package.
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
