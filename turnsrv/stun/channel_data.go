package stun

import (
	"encoding/binary"
	"errors"
)

// ChannelNumber identifies a channel of an allocation, RFC 8656 section 12.
type ChannelNumber uint16

// Channel numbers. The range of RFC 8656 ends at 0x4FFF, and the rest is reserved. The range of RFC 5766 ended at 0x7FFF, and
// current clients such as coturn's (4.6) still use all of it.
const (
	MinChannel ChannelNumber = 0x4000
	MaxChannel ChannelNumber = 0x7FFF
)

// ChannelDataHeaderLen is the length of the header of ChannelData in bytes.
const ChannelDataHeaderLen = 4

// ErrChannelData is returned for ChannelData that ends before its declared length.
var ErrChannelData = errors.New("ChannelData is shorter than its declared length")

// IsChannelData reports whether a message that begins with the byte first is ChannelData rather than STUN: whether its channel
// number is between 0x4000 and 0x7FFF, RFC 8656 section 12.
func IsChannelData(first byte) bool { return first&0xC0 == 0x40 }

// IsRequest reports whether the first two bytes of b are those of a STUN request, RFC 8489 section 5. It does not check the rest.
func IsRequest(b []byte) bool { return len(b) > 1 && b[0]&0xC1 == 0 && b[1]&0x10 == 0 }

// ParseChannelData splits the ChannelData message in b (RFC 8656 section 12.4).
//
// b is one datagram, or one frame of a stream. Bytes after the declared length are padding. data aliases b and may be empty.
// The caller has checked the first byte with IsChannelData. The error is ErrChannelData.
func ParseChannelData(b []byte) (number ChannelNumber, data []byte, err error) {
	if len(b) < ChannelDataHeaderLen {
		return 0, nil, ErrChannelData
	}
	length := int(binary.BigEndian.Uint16(b[2:4]))
	if length > len(b)-ChannelDataHeaderLen {
		return 0, nil, ErrChannelData
	}
	return ChannelNumber(binary.BigEndian.Uint16(b)), b[ChannelDataHeaderLen : ChannelDataHeaderLen+length], nil
}

// ChannelData builds a ChannelData message instead of a STUN message, without the padding required on streams (RFC 8656 section
// 12.5). data has at most 65535 bytes.
func (b *Builder) ChannelData(number ChannelNumber, data []byte) {
	b.buf = binary.BigEndian.AppendUint16(b.buf[:0], uint16(number))
	b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(len(data)))
	b.buf = append(b.buf, data...)
}
