// Package stun reads and writes the STUN messages (RFC 8489) of a TURN server. It checks every length that comes from the network,
// does no I/O, and does not retain its arguments.
package stun

import (
	"encoding/binary"
	"errors"
	"iter"
	"strconv"
)

// HeaderLen is the length of the STUN header in bytes, RFC 8489 section 5.
const HeaderLen = 20

// MagicCookie is the fixed value in bytes 4 to 7 of every message, RFC 8489 section 5.
const MagicCookie = 0x2112A442

const attributeHeaderLen = 4

// TransactionID matches a response to its request, RFC 8489 section 5.
type TransactionID [12]byte

// Method is the 12-bit method of a message.
type Method uint16

// Methods of RFC 8489 section 18.2 and RFC 8656 section 17.
const (
	MethodBinding          Method = 0x001
	MethodAllocate         Method = 0x003
	MethodRefresh          Method = 0x004
	MethodSend             Method = 0x006
	MethodData             Method = 0x007
	MethodCreatePermission Method = 0x008
	MethodChannelBind      Method = 0x009
)

// String returns the method's name in RFC 8656, or its number.
func (m Method) String() string {
	switch m {
	case MethodBinding:
		return "Binding"
	case MethodAllocate:
		return "Allocate"
	case MethodRefresh:
		return "Refresh"
	case MethodSend:
		return "Send"
	case MethodData:
		return "Data"
	case MethodCreatePermission:
		return "CreatePermission"
	case MethodChannelBind:
		return "ChannelBind"
	}
	return "method " + strconv.Itoa(int(m))
}

// Class is the 2-bit class of a message.
type Class uint8

// Classes of RFC 8489 section 5.
const (
	ClassRequest    Class = 0b00
	ClassIndication Class = 0b01
	ClassSuccess    Class = 0b10
	ClassError      Class = 0b11
)

// Message is a parsed message. It aliases the bytes that it was parsed from.
type Message struct {
	Method        Method
	Class         Class
	TransactionID TransactionID

	raw            []byte // header and attributes
	attributesEnd  int    // offset after the last attribute before MESSAGE-INTEGRITY and FINGERPRINT
	integrity      int    // offset of the MESSAGE-INTEGRITY attribute, or 0
	HasFingerprint bool
}

// Errors of Parse. A server must not answer such a message, RFC 8489 section 6.3.
var (
	ErrNotSTUN     = errors.New("not a STUN message")
	ErrLength      = errors.New("invalid length of a message or attribute")
	ErrFingerprint = errors.New("FINGERPRINT is wrong or is not the last attribute")
)

// Parse parses b, which must be exactly one message. It verifies FINGERPRINT if present, but not MESSAGE-INTEGRITY.
func Parse(b []byte) (Message, error) {
	if len(b) < HeaderLen || b[0]&0xC0 != 0 || binary.BigEndian.Uint32(b[4:8]) != MagicCookie {
		return Message{}, ErrNotSTUN
	}
	if length := int(binary.BigEndian.Uint16(b[2:4])); length%4 != 0 || HeaderLen+length != len(b) {
		return Message{}, ErrLength
	}
	m := Message{raw: b}
	m.Method, m.Class = splitType(binary.BigEndian.Uint16(b[:2]))
	copy(m.TransactionID[:], b[8:HeaderLen])
	return m, m.walk()
}

// walk checks the framing of all attributes, and FINGERPRINT, and sets the offsets.
func (m *Message) walk() error {
	for at := HeaderLen; at < len(m.raw); {
		typ, value, next, ok := attributeAt(m.raw, at)
		if !ok {
			return ErrLength
		}
		switch {
		case typ == AttrFingerprint:
			if next != len(m.raw) || len(value) != 4 || binary.BigEndian.Uint32(value) != fingerprint(m.raw[:at]) {
				return ErrFingerprint
			}
			m.HasFingerprint = true
		case m.integrity != 0:
			// RFC 8489 section 14.5: attributes after the integrity attribute are ignored.
		case typ == AttrMessageIntegrity:
			m.integrity = at
		default:
			m.attributesEnd = next
		}
		at = next
	}
	return nil
}

// attributeAt returns the attribute at offset at. next is the offset after its padding.
func attributeAt(raw []byte, at int) (typ AttrType, value []byte, next int, ok bool) {
	if len(raw)-at < attributeHeaderLen {
		return 0, nil, 0, false
	}
	typ = AttrType(binary.BigEndian.Uint16(raw[at:]))
	length := int(binary.BigEndian.Uint16(raw[at+2:]))
	start := at + attributeHeaderLen
	next = start + (length+3)&^3
	if next > len(raw) {
		return 0, nil, 0, false
	}
	return typ, raw[start : start+length], next, true
}

// Attributes iterates over the attributes that precede MESSAGE-INTEGRITY and FINGERPRINT, in order. The values alias the message.
func (m *Message) Attributes() iter.Seq2[AttrType, []byte] {
	return func(yield func(AttrType, []byte) bool) {
		for at := HeaderLen; at < m.attributesEnd; {
			typ, value, next, _ := attributeAt(m.raw, at)
			if !yield(typ, value) {
				return
			}
			at = next
		}
	}
}

// Len returns the length of the whole message in bytes.
func (m *Message) Len() int { return len(m.raw) }

// splitType returns the method and the class in a message type, whose bits are interleaved: RFC 8489 figure 3.
func splitType(t uint16) (Method, Class) {
	method := t&0x000F | t&0x00E0>>1 | t&0x3E00>>2
	class := t&0x0010>>4 | t&0x0100>>7
	return Method(method), Class(class)
}

// joinType is the inverse of splitType.
func joinType(m Method, c Class) uint16 {
	method, class := uint16(m), uint16(c)
	return method&0x000F | method&0x0070<<1 | method&0x0F80<<2 | class&1<<4 | class&2<<7
}
