package session

import (
	"errors"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// protocolUDP is the only transport protocol between relay and peer, RFC 8656 section 18.8.
const protocolUDP = 17

// bothFamilies are the families of a dual allocation, in the order of its relayed addresses.
var bothFamilies = [...]stun.Family{stun.IPv4, stun.IPv6}

// allocate performs the checks of an Allocate request in the order of RFC 8656 section 7.2. r is authenticated.
func (s *Session) allocate(r *request, a *allocation, grant credential.Grant, now time.Time) []byte {
	if a != nil {
		if a.made == r.id { // a retransmission
			return s.answerAllocate(r, a)
		}
		return s.refuseAllocate(r, stun.CodeAllocationMismatch, event.RefusedTupleInUse, now)
	}
	if s.banned(r, now) {
		return s.refuseAllocate(r, stun.CodeForbidden, event.RefusedBanned, now)
	}
	transport, ok := uint32Attribute(r.requestedTransport)
	if !ok {
		return s.refuseAllocate(r, stun.CodeBadRequest, event.RefusedTransport, now)
	}
	if transport>>24 != protocolUDP {
		return s.refuseAllocate(r, stun.CodeUnsupportedTransportProtocol, event.RefusedTransport, now)
	}
	if r.dontFragment != nil && !relay.CanDontFragment {
		r.unknown = append(r.unknown[:0], stun.AttrDontFragment)
		return s.refuseUnknown(r, now)
	}
	request, code := s.relayRequest(r)
	request.Loop = s.loop
	if code != 0 {
		reason := event.RefusedAttributes
		if code == stun.CodeAddressFamilyNotSupported {
			reason = event.RefusedFamily
		}
		return s.refuseAllocate(r, code, reason, now)
	}
	if s.shared.draining.Load() || s.shared.paused.Load() {
		return s.refuseDraining(r, now)
	}
	if !s.hasDailyBytes(r, now) {
		return s.refuseAllocate(r, stun.CodeAllocationQuotaReached, event.RefusedDailyBytes, now)
	}
	families := []stun.Family{request.Family}
	if r.additionalFamily != nil {
		families = bothFamilies[:]
	}
	realm, _ := s.shared.realmNamed(r.realm)
	at := now.Sub(s.shared.start)
	a = &allocation{
		session: s, client: r.client, made: r.id, username: r.origin.username, realm: realm, subject: r.subject,
		key: r.key, expires: grant.Expires, since: now.UnixNano(),
	}
	a.silence.Hear(at)
	a.active.Store(int64(at))
	a.beginShares(s.shared, now)
	var failures []*addressError
	for _, request.Family = range families {
		if failure := s.open(request, a, s.clampLifetime(r.lifetime), now); failure != nil {
			failures = append(failures, failure)
		}
	}
	if len(a.addresses) == 0 {
		failure := worst(failures)
		return s.refuseAllocate(r, failure.code, failure.reason, now)
	}
	if s.banned(r, now) { // since the first check: Inspect may not have seen this allocation
		s.endAddresses(a.addresses, event.EndedByOperator, now)
		return s.refuseAllocate(r, stun.CodeForbidden, event.RefusedBanned, now)
	}
	for _, failure := range failures {
		s.emitRefused(&r.origin, failure.code, failure.reason, now)
	}
	return s.answerAllocate(r, a)
}

// banned reports whether a ban forbids the allocation that r asks for.
func (s *Session) banned(r *request, now time.Time) bool {
	return s.shared.config.Bans.Banned(r.subject.Name, r.origin.username, r.client.Tuple.Client.Addr(), now)
}

// addressError describes why the allocation does not have one of its relayed addresses.
type addressError struct {
	code   stun.ErrorCode
	reason event.RefusalReason
}

// worst returns the failure to report when there is no relayed address at all. A temporary failure takes precedence over 440,
// because a client does not retry after a 440.
func worst(failures []*addressError) *addressError {
	for _, failure := range failures {
		if failure.code != stun.CodeAddressFamilyNotSupported {
			return failure
		}
	}
	return failures[0]
}

// open opens a relayed address for the allocation, or returns the reason why it could not.
func (s *Session) open(request relay.Request, a *allocation, lifetime time.Duration, now time.Time) *addressError {
	address := &relayedAddress{allocation: a, family: request.Family, expires: now.Sub(s.shared.start) + lifetime}
	replaced, reached, ok := s.shared.quota.take(address, now)
	if !ok {
		s.shared.logQuota(reached, now)
		return &addressError{stun.CodeAllocationQuotaReached, reached}
	}
	if replaced != nil {
		replaced.allocation.session.endFor(replaced.allocation, s, event.EndedSuperseded, now)
	}
	conn, _, err := s.shared.config.Relay.Allocate(request)
	if err != nil {
		s.shared.quota.untake(address)
		switch {
		case errors.Is(err, relay.ErrFamily):
			return &addressError{stun.CodeAddressFamilyNotSupported, event.RefusedFamily}
		case errors.Is(err, relay.ErrToken):
			return &addressError{stun.CodeInsufficientCapacity, event.RefusedToken}
		}
		s.shared.logRelayError(err, now)
		return &addressError{stun.CodeInsufficientCapacity, event.RefusedNoPort}
	}
	address.conn = conn
	if request.Token != nil { // the reserved address may be of either family
		address.family = stun.FamilyOf(conn.Relayed().Addr())
	}
	if err := conn.Start(address); err != nil {
		conn.Close()
		s.shared.quota.untake(address)
		s.shared.logRelayError(err, now)
		return &addressError{stun.CodeInsufficientCapacity, event.RefusedNoPort}
	}
	s.enter(address, now)
	s.shared.emit(event.Event{
		Kind: event.AllocationMade, Time: now, Tuple: a.client.Tuple, Username: a.username, Subject: a.subject,
		Relayed: conn.Relayed(), Lifetime: lifetime,
	})
	return nil
}

// enter adds a relayed address to its allocation. If it is the first one, enter also adds the allocation to the session.
func (s *Session) enter(address *relayedAddress, now time.Time) {
	a := address.allocation
	a.addresses = append(a.addresses, address)
	s.expiries.schedule(a)
	if a.unsettled() {
		s.stir(a)
	}
	if len(a.addresses) > 1 {
		return
	}
	s.allocations.add(a)
	if s.allocations.len() == 1 {
		s.shared.occupied.set(s, true)
	}
	s.link.Allocated(a.client, true)
	if s.alarm.IsZero() {
		s.setAlarm(now.Add(JanitorPeriod))
	}
}

// answerAllocate builds the success response to the request that made a, RFC 8656 section 7.2. It stores nothing for a retransmission,
// to which it builds the response again.
func (s *Session) answerAllocate(r *request, a *allocation) []byte {
	b := s.succeed(&r.origin)
	var token relay.Token
	for _, address := range a.addresses {
		b.XORAddress(stun.AttrXORRelayedAddress, address.conn.Relayed())
		token = address.conn.Reservation()
	}
	b.Uint32(stun.AttrLifetime, seconds(s.clampLifetime(r.lifetime)))
	if token != (relay.Token{}) {
		b.Attr(stun.AttrReservationToken, token[:])
	}
	b.XORAddress(stun.AttrXORMappedAddress, r.client.Tuple.Client)
	if r.additionalFamily != nil {
		for _, family := range bothFamilies {
			if a.address(family) == nil {
				code := stun.CodeInsufficientCapacity // section 7.2 allows only this code and 440 here
				if !s.shared.config.Relay.Has(family) {
					code = stun.CodeAddressFamilyNotSupported
				}
				b.AddressErrorCode(family, code)
			}
		}
	}
	return s.finish(&r.origin)
}

// relayRequest returns the relayed address that r asks for. code is the error response to an invalid combination of attributes,
// or 0.
func (s *Session) relayRequest(r *request) (request relay.Request, code stun.ErrorCode) {
	config := &s.shared.config
	request.Family = config.DefaultFamily.Choose(r.client.Tuple.Client.Addr(), config.Relay.Has)
	if r.reservationToken != nil {
		if len(r.reservationToken) != len(relay.Token{}) || r.evenPort != nil || r.requestedFamily != nil || r.additionalFamily != nil {
			return request, stun.CodeBadRequest
		}
		token := relay.Token(r.reservationToken)
		request.Token = &token
	}
	if r.requestedFamily != nil {
		family, ok := familyAttribute(r.requestedFamily)
		if !ok || r.additionalFamily != nil {
			return request, stun.CodeBadRequest
		}
		if family != stun.IPv4 && family != stun.IPv6 {
			return request, stun.CodeAddressFamilyNotSupported
		}
		request.Family = family
	}
	if _, ok := uint32Attribute(r.lifetime); !ok && r.lifetime != nil {
		return request, stun.CodeBadRequest
	}
	if r.evenPort != nil {
		if len(r.evenPort) != 1 {
			return request, stun.CodeBadRequest
		}
		request.EvenPort = true
		request.ReserveNext = r.evenPort[0]&0x80 != 0
	}
	if r.additionalFamily != nil {
		if family, ok := familyAttribute(r.additionalFamily); !ok || family != stun.IPv6 || request.ReserveNext {
			return request, stun.CodeBadRequest
		}
	}
	return request, 0
}

func (s *Session) refuseAllocate(r *request, code stun.ErrorCode, reason event.RefusalReason, now time.Time) []byte {
	s.emitRefused(&r.origin, code, reason, now)
	return s.refuse(&r.origin, code)
}

// clampLifetime returns the lifetime to grant for a LIFETIME attribute, which may be absent. It lies between the default and
// the maximum lifetime, RFC 8656 section 7.2.
func (s *Session) clampLifetime(attribute []byte) time.Duration {
	wanted, _ := uint32Attribute(attribute)
	config := &s.shared.config
	return min(max(time.Duration(wanted)*time.Second, config.Lifetime), config.MaxLifetime)
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }
