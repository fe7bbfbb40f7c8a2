package stun

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
)

// HasIntegrity reports whether the message carries MESSAGE-INTEGRITY, of whatever length.
func (m *Message) HasIntegrity() bool { return m.integrity != 0 }

// VerifyIntegrity reports whether MESSAGE-INTEGRITY was made under key, RFC 8489 section 14.5. It compares in constant
// time. A message without the attribute, or with one of a wrong length, was not.
func (m *Message) VerifyIntegrity(key []byte) bool {
	if m.integrity == 0 {
		return false
	}
	_, value, _, _ := attributeAt(m.raw, m.integrity)
	want := messageIntegrity(key, m.raw[:m.integrity])
	return hmac.Equal(value, want[:])
}

// messageIntegrity is the HMAC-SHA1 over what precedes the attribute, with a length in the header that includes it.
func messageIntegrity(key, preceding []byte) (sum [sha1.Size]byte) {
	var length [2]byte
	binary.BigEndian.PutUint16(length[:], uint16(len(preceding)-HeaderLen+attributeHeaderLen+sha1.Size))
	mac := hmac.New(sha1.New, key)
	mac.Write(preceding[:2])
	mac.Write(length[:])
	mac.Write(preceding[4:])
	mac.Sum(sum[:0])
	return sum
}
