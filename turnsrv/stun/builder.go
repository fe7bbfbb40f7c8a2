package stun

import (
	"encoding/binary"
	"net/netip"
)

// Builder builds one message at a time, attribute by attribute. The zero Builder is ready for Start. Reusing a Builder for many
// messages avoids allocations.
type Builder struct {
	buf []byte
	id  TransactionID
}

// Start begins a new message and discards the previous one.
func (b *Builder) Start(method Method, class Class, id TransactionID) {
	b.id = id
	b.buf = binary.BigEndian.AppendUint16(b.buf[:0], joinType(method, class))
	b.buf = append(b.buf, 0, 0)
	b.buf = binary.BigEndian.AppendUint32(b.buf, MagicCookie)
	b.buf = append(b.buf, id[:]...)
}

// Bytes returns the message. It is valid until the next Start or ChannelData.
func (b *Builder) Bytes() []byte { return b.buf }

// Len returns the length of the message so far, in bytes.
func (b *Builder) Len() int { return len(b.buf) }

// Attr adds an attribute with a value of at most 65535 bytes.
func (b *Builder) Attr(t AttrType, value []byte) {
	start := b.open(t)
	b.buf = append(b.buf, value...)
	b.close(start)
}

// Text adds an attribute with a string as its value.
func (b *Builder) Text(t AttrType, value string) {
	start := b.open(t)
	b.buf = append(b.buf, value...)
	b.close(start)
}

// Uint32 adds an attribute of four bytes.
func (b *Builder) Uint32(t AttrType, value uint32) {
	start := b.open(t)
	b.buf = binary.BigEndian.AppendUint32(b.buf, value)
	b.close(start)
}

// XORAddress adds an address attribute, encoded as in RFC 8489 section 14.2.
func (b *Builder) XORAddress(t AttrType, addr netip.AddrPort) {
	start := b.open(t)
	b.buf = appendXORAddress(b.buf, addr, b.id)
	b.close(start)
}

// Address adds an address attribute, encoded as in RFC 8489 section 14.1.
func (b *Builder) Address(t AttrType, addr netip.AddrPort) {
	start := b.open(t)
	b.buf = append(b.buf, 0, byte(FamilyOf(addr.Addr())))
	b.buf = binary.BigEndian.AppendUint16(b.buf, addr.Port())
	b.buf = append(b.buf, addr.Addr().AsSlice()...)
	b.close(start)
}

// ErrorCode adds ERROR-CODE, RFC 8489 section 14.8. The reason may be empty.
func (b *Builder) ErrorCode(code ErrorCode, reason string) {
	start := b.open(AttrErrorCode)
	b.buf = append(b.buf, 0, 0, byte(code/100), byte(code%100))
	b.buf = append(b.buf, reason...)
	b.close(start)
}

// AddressErrorCode adds ADDRESS-ERROR-CODE, RFC 8656 section 18.12.
func (b *Builder) AddressErrorCode(family Family, code ErrorCode) {
	start := b.open(AttrAddressErrorCode)
	b.buf = append(b.buf, byte(family), 0, byte(code/100), byte(code%100))
	b.buf = append(b.buf, code.Reason()...)
	b.close(start)
}

// UnknownAttributes adds UNKNOWN-ATTRIBUTES, RFC 8489 section 14.13.
func (b *Builder) UnknownAttributes(types []AttrType) {
	start := b.open(AttrUnknownAttributes)
	for _, t := range types {
		b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(t))
	}
	b.close(start)
}

// MessageIntegrity adds MESSAGE-INTEGRITY, RFC 8489 section 14.5, which signs everything before it. Only FINGERPRINT may follow.
func (b *Builder) MessageIntegrity(key []byte) {
	sum := messageIntegrity(key, b.buf)
	b.Attr(AttrMessageIntegrity, sum[:])
}

// Fingerprint adds FINGERPRINT, RFC 8489 section 14.7. Nothing may follow.
func (b *Builder) Fingerprint() {
	b.Uint32(AttrFingerprint, fingerprint(b.buf))
}

// open writes the header of an attribute and returns the offset of its value.
func (b *Builder) open(t AttrType) int {
	b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(t))
	b.buf = append(b.buf, 0, 0)
	return len(b.buf)
}

// close sets the attribute's length, pads the attribute with zeros, and updates the length in the header.
func (b *Builder) close(start int) {
	binary.BigEndian.PutUint16(b.buf[start-2:], uint16(len(b.buf)-start))
	for len(b.buf)%4 != 0 {
		b.buf = append(b.buf, 0)
	}
	binary.BigEndian.PutUint16(b.buf[2:], uint16(len(b.buf)-HeaderLen))
}
