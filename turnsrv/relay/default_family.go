package relay

import (
	"net/netip"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// DefaultFamily says of which family the relayed address is when an Allocate request names none, as those of Chromium and
// Firefox do not.
type DefaultFamily uint8

const (
	// PreferIPv4 gives an IPv4 address, as RFC 8656 section 7.2 wants, or an IPv6 address if the relay has no other:
	// refusing would keep every browser from such a relay.
	PreferIPv4 DefaultFamily = iota
	// OnlyIPv4 follows RFC 8656 to the letter: without an IPv4 address the answer is 440.
	OnlyIPv4
	// ClientFamily gives an address of the family that the client itself uses, or the other one if the relay has only that.
	// A client of a network that has IPv6 alone then reaches no peer that has IPv4 alone.
	ClientFamily
)

// Choose returns the family for a request of client that names none. has reports what the relay has.
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
