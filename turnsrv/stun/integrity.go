package stun

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"

	"github.com/mailturn/mailturn/turnsrv/internal/hmacsha1"
)

// HasIntegrity reports whether the message contains MESSAGE-INTEGRITY, whatever its length.
func (m *Message) HasIntegrity() bool { return m.integrity != 0 }

// VerifyIntegrity reports whether MESSAGE-INTEGRITY was computed with key, RFC 8489 section 14.5. It compares in constant time. It
// returns false if the attribute is absent or has the wrong length.
func (m *Message) VerifyIntegrity(key []byte) bool {
	if m.integrity == 0 {
		return false
	}
	_, value, _, _ := attributeAt(m.raw, m.integrity)
	want := messageIntegrity(key, m.raw[:m.integrity])
	return hmac.Equal(value, want[:])
}

// messageIntegrity returns the HMAC-SHA1 of the bytes before the attribute, with the attribute included in the header's length.
func messageIntegrity(key, preceding []byte) [sha1.Size]byte {
	var length [2]byte
	binary.BigEndian.PutUint16(length[:], uint16(len(preceding)-HeaderLen+attributeHeaderLen+sha1.Size))
	return hmacsha1.Sum(key, preceding[:2], length[:], preceding[4:])
}
