package turnsrv

import (
	"bytes"
	"errors"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// protocolUDP is the only transport between relay and peer that there is, RFC 8656 section 18.8.
const protocolUDP = 17

// allocate walks the checks of an Allocate request in the order of RFC 8656 section 7.2. r is authenticated.
func (f *front) allocate(r *request, a *allocation, grant credential.Grant, now time.Time) []byte {
	if a != nil {
		if a.made == r.id {
			return a.response
		}
		return f.refuseAllocate(r, stun.CodeAllocationMismatch, RefusedTupleInUse, now)
	}
	transport, ok := uint32Attribute(r.requestedTransport)
	if !ok {
		return f.refuseAllocate(r, stun.CodeBadRequest, RefusedTransport, now)
	}
	if transport>>24 != protocolUDP {
		return f.refuseAllocate(r, stun.CodeUnsupportedTransportProtocol, RefusedTransport, now)
	}
	if r.dontFragment != nil && !relay.CanDontFragment {
		r.unknown = append(r.unknown[:0], stun.AttrDontFragment)
		return f.refuseUnknown(r, now)
	}
	request, code := f.relayRequest(r)
	if code != 0 {
		reason := RefusedAttributes
		if code == stun.CodeAddressFamilyNotSupported {
			reason = RefusedFamily
		}
		return f.refuseAllocate(r, code, reason, now)
	}
	if f.shared.draining.Load() {
		return f.refuseAllocate(r, stun.CodeInsufficientCapacity, RefusedDraining, now)
	}
	families := []stun.Family{request.Family}
	if r.additionalFamily != nil {
		families = []stun.Family{stun.IPv4, stun.IPv6}
	}
	answer := allocateAnswer{
		origin: r.origin, lifetime: f.clampLifetime(r.lifetime),
		allocation: &allocation{
			front: f, client: r.client, made: r.id, username: r.origin.username, realm: string(r.realm), subject: r.subject,
			key: r.key, expires: grant.Expires,
		},
	}
	answer.allocation.active.Store(int64(now.Sub(f.shared.start)))
	answer.allocation.beginShares(f.shared, now)
	for _, request.Family = range families {
		if failure := f.open(request, &answer, now); failure != nil {
			answer.failures = append(answer.failures, failure)
		}
	}
	if len(answer.allocation.addresses) == 0 {
		failure := answer.worst()
		return f.refuseAllocate(r, failure.code, failure.reason, now)
	}
	return f.answerAllocate(&answer, now)
}

// allocateAnswer collects what the answer to an Allocate request says.
type allocateAnswer struct {
	origin     origin
	allocation *allocation
	lifetime   time.Duration
	token      relay.Token
	failures   []*addressError // of the relayed addresses that are missing
}

// addressError says why there is no relayed address of a family.
type addressError struct {
	family stun.Family
	code   stun.ErrorCode
	reason RefusalReason
}

// worst returns the failure that is the answer's when there is no relayed address: one that time may mend goes before 440, after
// which a client would not ask again.
func (a *allocateAnswer) worst() *addressError {
	for _, failure := range a.failures {
		if failure.code != stun.CodeAddressFamilyNotSupported {
			return failure
		}
	}
	return a.failures[0]
}

// open gives the allocation a relayed address, or says why there is none.
func (f *front) open(request relay.Request, answer *allocateAnswer, now time.Time) *addressError {
	a := answer.allocation
	address := &relayedAddress{allocation: a, family: request.Family, expires: now.Add(answer.lifetime)}
	idle, reached, ok := f.shared.quota.take(address, now.Sub(f.shared.start))
	if !ok {
		f.shared.logQuota(reached, now)
		return &addressError{request.Family, stun.CodeAllocationQuotaReached, reached}
	}
	if idle != nil {
		idle.allocation.front.supersede(idle.allocation, f, now)
	}
	conn, token, err := f.shared.config.Relay.Allocate(request)
	if err != nil {
		f.shared.quota.give(address)
		switch {
		case errors.Is(err, relay.ErrFamily):
			return &addressError{request.Family, stun.CodeAddressFamilyNotSupported, RefusedFamily}
		case errors.Is(err, relay.ErrToken):
			return &addressError{request.Family, stun.CodeInsufficientCapacity, RefusedToken}
		}
		f.shared.logRelayError(err, now)
		return &addressError{request.Family, stun.CodeInsufficientCapacity, RefusedNoPort}
	}
	address.conn = conn
	if request.Token != nil { // of whichever family the address was reserved in
		address.family = stun.FamilyOf(conn.Relayed().Addr())
	}
	if err := conn.Start(address); err != nil {
		conn.Close()
		f.shared.quota.give(address)
		f.shared.logRelayError(err, now)
		return &addressError{request.Family, stun.CodeInsufficientCapacity, RefusedNoPort}
	}
	if token != (relay.Token{}) {
		answer.token = token
	}
	f.enter(address, now)
	f.shared.emit(Event{
		Kind: AllocationMade, Time: now, Tuple: a.client.tuple, Username: a.username, Subject: a.subject,
		Relayed: conn.Relayed(), Lifetime: answer.lifetime,
	})
	return nil
}

// enter adds a relayed address to its allocation, and the allocation, if it is the first one, to those of the front.
func (f *front) enter(address *relayedAddress, now time.Time) {
	a := address.allocation
	a.addresses = append(a.addresses, address)
	if len(a.addresses) > 1 {
		return
	}
	a.silence.hear(now)
	f.allocations[a.client] = a
	f.link.allocated(a.client, true)
	if f.alarm.IsZero() {
		f.setAlarm(now.Add(janitorPeriod))
	}
}

// answerAllocate builds the answer, RFC 8656 section 7.2.
func (f *front) answerAllocate(answer *allocateAnswer, now time.Time) []byte {
	for _, failure := range answer.failures {
		f.emitRefused(&answer.origin, failure.code, failure.reason, now)
	}
	b := f.succeed(&answer.origin)
	for _, address := range answer.allocation.addresses {
		b.XORAddress(stun.AttrXORRelayedAddress, address.conn.Relayed())
	}
	b.Uint32(stun.AttrLifetime, seconds(answer.lifetime))
	if answer.token != (relay.Token{}) {
		b.Attr(stun.AttrReservationToken, answer.token[:])
	}
	b.XORAddress(stun.AttrXORMappedAddress, answer.origin.client.tuple.Client)
	for _, failure := range answer.failures {
		code := stun.CodeInsufficientCapacity // one of the two that section 7.2 has for this, whatever the reason
		if failure.code == stun.CodeAddressFamilyNotSupported {
			code = failure.code
		}
		b.AddressErrorCode(failure.family, code)
	}
	answer.allocation.response = bytes.Clone(f.finish(&answer.origin))
	return answer.allocation.response
}

// relayRequest reads what the address has to be like, and the error that the combination draws, if it does.
func (f *front) relayRequest(r *request) (request relay.Request, code stun.ErrorCode) {
	config := &f.shared.config
	request.Family = config.DefaultFamily.choose(r.client.tuple.Client.Addr(), config.Relay.Has)
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

func (f *front) refuseAllocate(r *request, code stun.ErrorCode, reason RefusalReason, now time.Time) []byte {
	f.emitRefused(&r.origin, code, reason, now)
	return f.refuse(&r.origin, code)
}

// clampLifetime returns the lifetime for a LIFETIME attribute, which may be absent: between the default and
// the maximum, RFC 8656 section 7.2.
func (f *front) clampLifetime(attribute []byte) time.Duration {
	wanted, _ := uint32Attribute(attribute)
	config := &f.shared.config
	return min(max(time.Duration(wanted)*time.Second, config.Lifetime), config.MaxLifetime)
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }
