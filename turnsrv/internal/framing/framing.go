// Package framing splits a stream into TURN messages (RFC 8656 section 12.5).
package framing

import (
	"bufio"
	"encoding/binary"
	"errors"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Err is returned for bytes that are neither STUN nor ChannelData. The connection is then unusable, because the start of the
// next message is unknown.
var Err = errors.New("stream is neither STUN nor ChannelData")

// Next waits for the header of the next frame and returns the length of the whole frame, including padding. first is true for
// the first frame of a connection. Next consumes nothing, so an idle connection requires no buffer other than that of r. It
// returns Err, or the error of reading.
//
// On a stream, STUN messages follow one another without padding. ChannelData is padded to a multiple of four bytes that its
// length field does not count, RFC 8656 section 12.5. The first frame of a connection must be STUN. Otherwise the first letter
// of an HTTP GET would be read as the start of a long ChannelData message.
func Next(r *bufio.Reader, first bool) (int, error) {
	head, err := r.Peek(stun.ChannelDataHeaderLen)
	if err != nil {
		return 0, err
	}
	length := Len(head)
	if stun.IsChannelData(head[0]) {
		if first {
			return 0, Err
		}
		return length, nil
	}
	if head[0]&0xC0 != 0 || length%4 != 0 {
		return 0, Err
	}
	// Check the magic cookie before waiting for bytes that a client of another protocol would never send.
	if head, err = r.Peek(8); err != nil {
		return 0, err
	}
	if binary.BigEndian.Uint32(head[4:]) != stun.MagicCookie {
		return 0, Err
	}
	return length, nil
}

// Len returns the length of a frame that begins with the four bytes in head, including header and padding.
func Len(head []byte) int {
	length := int(binary.BigEndian.Uint16(head[2:]))
	if stun.IsChannelData(head[0]) {
		return stun.ChannelDataHeaderLen + (length+3)&^3
	}
	return stun.HeaderLen + length
}
