package stun

import "net/netip"

// AttrType is the type of an attribute. Types below 0x8000 are comprehension-required, RFC 8489 section 14.
type AttrType uint16

// Attributes of RFC 8489 section 18.3 and RFC 8656 section 18.
const (
	AttrMappedAddress           AttrType = 0x0001
	AttrUsername                AttrType = 0x0006
	AttrMessageIntegrity        AttrType = 0x0008
	AttrErrorCode               AttrType = 0x0009
	AttrUnknownAttributes       AttrType = 0x000A
	AttrChannelNumber           AttrType = 0x000C
	AttrLifetime                AttrType = 0x000D
	AttrXORPeerAddress          AttrType = 0x0012
	AttrData                    AttrType = 0x0013
	AttrRealm                   AttrType = 0x0014
	AttrNonce                   AttrType = 0x0015
	AttrXORRelayedAddress       AttrType = 0x0016
	AttrRequestedAddressFamily  AttrType = 0x0017
	AttrEvenPort                AttrType = 0x0018
	AttrRequestedTransport      AttrType = 0x0019
	AttrDontFragment            AttrType = 0x001A
	AttrMessageIntegritySHA256  AttrType = 0x001C
	AttrXORMappedAddress        AttrType = 0x0020
	AttrReservationToken        AttrType = 0x0022
	AttrAdditionalAddressFamily AttrType = 0x8000
	AttrAddressErrorCode        AttrType = 0x8001
	AttrAlternateDomain         AttrType = 0x8003
	AttrICMP                    AttrType = 0x8004
	AttrSoftware                AttrType = 0x8022
	AttrAlternateServer         AttrType = 0x8023
	AttrFingerprint             AttrType = 0x8028

	// AttrCoturnAdditionalAddressFamily is the number that coturn and its client use for ADDITIONAL-ADDRESS-FAMILY. It comes from
	// draft-martinsen-tram-ssoda, which predates RFC 8656. IANA has assigned the number to another attribute, of [MS-TURN].
	AttrCoturnAdditionalAddressFamily AttrType = 0x8032
	// AttrOrigin is ORIGIN of the expired draft-ietf-tram-stun-origin: the web origin on whose behalf a client connects (RFC
	// 6454). coturn uses it to select the realm.
	AttrOrigin AttrType = 0x802F
)

// ComprehensionRequired reports whether a request must be refused if its attribute of type t is unknown, RFC 8489 section 14.
func (t AttrType) ComprehensionRequired() bool { return t < 0x8000 }

// Family is an address family as encoded in attributes, RFC 8489 section 14.1.
type Family uint8

// Address families.
const (
	IPv4 Family = 0x01
	IPv6 Family = 0x02
)

// FamilyOf returns the family of an address. For an IPv4-mapped address, it is IPv6.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}
