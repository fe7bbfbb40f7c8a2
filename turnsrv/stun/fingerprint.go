package stun

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	fingerprintXOR = 0x5354554E
	fingerprintLen = attributeHeaderLen + 4
)

// fingerprint returns the value of a FINGERPRINT attribute after preceding, RFC 8489 section 14.7. The length in the header
// must include the attribute. It is changed in a copy, because a parsed message must not be modified.
func fingerprint(preceding []byte) uint32 {
	var head [4]byte
	copy(head[:], preceding[:2])
	binary.BigEndian.PutUint16(head[2:], uint16(len(preceding)-HeaderLen+fingerprintLen))
	crc := crc32.ChecksumIEEE(head[:])
	return crc32.Update(crc, crc32.IEEETable, preceding[4:]) ^ fingerprintXOR
}
