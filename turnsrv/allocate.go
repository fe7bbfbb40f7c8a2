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
		return f.refuseAllocate(r, stun.CodeAllocationMismatch, "5-tuple in use", now)
	}
	transport, ok := uint32Attribute(r.requestedTransport)
	if !ok {
		return f.refuseAllocate(r, stun.CodeBadRequest, "no transport requested", now)
	}
	if transport>>24 != protocolUDP {
		return f.refuseAllocate(r, stun.CodeUnsupportedTransportProtocol, "transport not supported", now)
	}
	if r.dontFragment != nil && !relay.CanDontFragment {
		r.unknown = append(r.unknown[:0], stun.AttrDontFragment)
		return f.refuseUnknown(&r.origin, r.unknown)
	}
	request, code := f.relayRequest(r)
	if code != 0 {
		return f.refuseAllocate(r, code, "attributes", now)
	}
	if f.server.draining.Load() {
		return f.refuseAllocate(r, stun.CodeInsufficientCapacity, "draining", now)
	}
	if reached, ok := f.server.quota.take(grant.Subject, r.client.tuple.Client.Addr()); !ok {
		return f.refuseAllocate(r, stun.CodeAllocationQuotaReached, reached, now)
	}
	made := f.newAllocation(r.client)
	request.Owner = made
	conn, token, err := f.server.config.Relay.Allocate(request)
	if err != nil {
		f.server.quota.give(grant.Subject, r.client.tuple.Client.Addr())
		switch {
		case errors.Is(err, relay.ErrFamily):
			return f.refuseAllocate(r, stun.CodeAddressFamilyNotSupported, "family", now)
		case errors.Is(err, relay.ErrToken):
			return f.refuseAllocate(r, stun.CodeInsufficientCapacity, "reservation token", now)
		}
		f.server.logRelayError(err, now)
		return f.refuseAllocate(r, stun.CodeInsufficientCapacity, "no relay port", now)
	}
	made.relay = conn
	made.family = stun.IPv6
	if conn.Relayed().Addr().Is4() {
		made.family = stun.IPv4
	}
	made.username, made.subject, made.key, made.credentialExpires = r.origin.username, grant.Subject, r.key, grant.Expires
	made.made = r.id
	lifetime := f.clampLifetime(r.lifetime)
	additional := r.additionalFamily != nil

	o := r.origin
	f.order(order{method: stun.MethodAllocate, allocation: made, lifetime: pionLifetime, done: func(ok bool) []byte {
		if !ok {
			_ = conn.Close()
			f.server.quota.give(grant.Subject, o.client.tuple.Client.Addr())
			return f.refuse(&o, stun.CodeInsufficientCapacity)
		}
		made.expires = now.Add(lifetime)
		made.pionExpires = now.Add(pionLifetime)
		f.enter(made, now)
		b := f.succeed(&o)
		b.XORAddress(stun.AttrXORRelayedAddress, conn.Relayed())
		b.Uint32(stun.AttrLifetime, seconds(lifetime))
		if token != (relay.Token{}) {
			b.Attr(stun.AttrReservationToken, token[:])
		}
		b.XORAddress(stun.AttrXORMappedAddress, o.client.tuple.Client)
		if additional {
			// One address is what there is. RFC 8656 section 7.2 has the answer say so.
			code := stun.CodeInsufficientCapacity
			if !f.server.config.Relay.Has(stun.IPv6) {
				code = stun.CodeAddressFamilyNotSupported
			}
			b.AddressErrorCode(stun.IPv6, code)
		}
		made.response = bytes.Clone(f.finish(&o))
		f.server.counters.allocationsMade.Add(1)
		f.server.emit(Event{
			Kind: AllocationMade, Time: now, Tuple: o.client.tuple, Username: made.username,
			Relayed: conn.Relayed(), Lifetime: lifetime,
		})
		return made.response
	}})
	return nil
}

// relayRequest reads what the address has to be like, and the error that the combination draws, if it does.
func (f *front) relayRequest(r *request) (request relay.Request, code stun.ErrorCode) {
	config := &f.server.config
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

func (f *front) refuseAllocate(r *request, code stun.ErrorCode, reason string, now time.Time) []byte {
	f.server.emit(Event{
		Kind: AllocationRefused, Time: now, Tuple: r.client.tuple, Username: r.origin.username, Code: code, Reason: reason,
	})
	return f.refuse(&r.origin, code)
}

// clampLifetime returns the lifetime for a LIFETIME attribute, which may be absent or malformed: between the default and
// the maximum, RFC 8656 section 7.2.
func (f *front) clampLifetime(attribute []byte) time.Duration {
	wanted, _ := uint32Attribute(attribute)
	config := &f.server.config
	return min(max(time.Duration(wanted)*time.Second, config.Lifetime), config.MaxLifetime)
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }
