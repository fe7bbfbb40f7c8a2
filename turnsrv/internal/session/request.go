package session

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// MaxUnknown limits the number of types listed in UNKNOWN-ATTRIBUTES.
const MaxUnknown = 16

// additionalIPv6 is the only valid value of ADDITIONAL-ADDRESS-FAMILY, RFC 8656 section 18.11.
const additionalIPv6 = "\x02\x00\x00\x00"

// origin contains what building the response requires. It remains valid after the bytes of the request are gone.
type origin struct {
	client      Client
	method      stun.Method
	id          stun.TransactionID
	fingerprint bool
	size        int // size of the request in bytes
	received    time.Time
	key         []byte             // key that the request is signed with; nil until it is verified
	username    string             // user of the key
	subject     credential.Subject // holder of the key
}

// request is a message of a client with its attributes parsed. If an attribute occurs more than once, the first one counts, RFC
// 8489 section 14. The slices alias the message.
type request struct {
	origin
	message stun.Message

	username, realm, nonce []byte
	lifetime               []byte
	channelNumber          []byte
	data                   []byte
	requestedTransport     []byte
	requestedFamily        []byte
	additionalFamily       []byte
	evenPort               []byte
	reservationToken       []byte
	dontFragment           []byte
	webOrigins             [][]byte
	peers                  []netip.AddrPort
	malformedPeer          bool
	unknown                []stun.AttrType
}

// read parses the attributes of m. It reuses the memory of the previous request.
func (r *request) read(m stun.Message, from Client, now time.Time) {
	*r = request{
		origin: origin{
			client: from, method: m.Method, id: m.TransactionID, fingerprint: m.HasFingerprint, size: m.Len(), received: now,
		},
		message:    m,
		peers:      r.peers[:0],
		unknown:    r.unknown[:0],
		webOrigins: r.webOrigins[:0],
	}
	for typ, value := range m.Attributes() {
		switch typ {
		case stun.AttrUsername:
			first(&r.username, value)
		case stun.AttrRealm:
			first(&r.realm, value)
		case stun.AttrNonce:
			first(&r.nonce, value)
		case stun.AttrLifetime:
			first(&r.lifetime, value)
		case stun.AttrChannelNumber:
			first(&r.channelNumber, value)
		case stun.AttrData:
			first(&r.data, value)
		case stun.AttrRequestedTransport:
			first(&r.requestedTransport, value)
		case stun.AttrRequestedAddressFamily:
			first(&r.requestedFamily, value)
		case stun.AttrAdditionalAddressFamily:
			first(&r.additionalFamily, value)
		case stun.AttrCoturnAdditionalAddressFamily:
			if string(value) == additionalIPv6 { // otherwise it is the other attribute of this number
				first(&r.additionalFamily, value)
			}
		case stun.AttrEvenPort:
			first(&r.evenPort, value)
		case stun.AttrReservationToken:
			first(&r.reservationToken, value)
		case stun.AttrDontFragment:
			first(&r.dontFragment, value)
		case stun.AttrOrigin:
			if len(r.webOrigins) < maxOrigins {
				r.webOrigins = append(r.webOrigins, value)
			}
		case stun.AttrXORPeerAddress:
			peer, err := stun.ParseXORAddress(value, m.TransactionID)
			if err != nil {
				r.malformedPeer = true
				continue
			}
			r.peers = append(r.peers, peer)
		case stun.AttrMappedAddress, stun.AttrErrorCode, stun.AttrUnknownAttributes, stun.AttrXORRelayedAddress,
			stun.AttrXORMappedAddress, stun.AttrMessageIntegritySHA256:
			// Known attributes that are meaningless in a request: RFC 8489 section 6.3 ignores them. The server offers no password
			// algorithm that would require MESSAGE-INTEGRITY-SHA256, section 9.2.4.
		default:
			if typ.ComprehensionRequired() && len(r.unknown) < MaxUnknown && !slices.Contains(r.unknown, typ) {
				r.unknown = append(r.unknown, typ)
			}
		}
	}
}

// first stores the first value of an attribute. An attribute that is present is never nil, even if its value is empty.
func first(field *[]byte, value []byte) {
	if *field == nil {
		*field = value
	}
}

// uint32Attribute decodes an attribute of exactly four bytes.
func uint32Attribute(value []byte) (uint32, bool) {
	if len(value) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(value), true
}

// familyAttribute decodes REQUESTED-ADDRESS-FAMILY and ADDITIONAL-ADDRESS-FAMILY, RFC 8656 section 18.6.
func familyAttribute(value []byte) (stun.Family, bool) {
	if len(value) != 4 {
		return 0, false
	}
	return stun.Family(value[0]), true
}
