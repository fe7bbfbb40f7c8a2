package relay

import (
	"net/netip"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// DefaultFamily determines the address family if an Allocate request specifies none. Chromium and Firefox never do.
type DefaultFamily uint8

const (
	// PreferIPv4 selects IPv4, as RFC 8656 section 7.2 requires, or IPv6 if the relay has no IPv4 address. A refusal would prevent
	// every browser from using such a relay.
	PreferIPv4 DefaultFamily = iota
	// OnlyIPv4 follows RFC 8656 strictly: without an IPv4 address, the response is 440.
	OnlyIPv4
	// ClientFamily selects the family of the client's own address, or the other one if the relay has only that. A client on an
	// IPv6-only network then cannot reach IPv4-only peers.
	ClientFamily
)

// Choose returns the family for a request of client that specifies none. has reports whether the relay has an address of a
// family.
func (d DefaultFamily) Choose(client netip.Addr, has func(stun.Family) bool) stun.Family {
	first, second := stun.IPv4, stun.IPv6
	if d == ClientFamily && client.Is6() {
		first, second = second, first
	}
	if d != OnlyIPv4 && !has(first) {
		return second
	}
	return first
}
