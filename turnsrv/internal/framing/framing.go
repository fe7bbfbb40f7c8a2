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

// cookieEnd is the number of bytes of a STUN message up to the end of its magic cookie.
const cookieEnd = 8

// Next waits for the header of the next frame and returns the length of the whole frame, including padding. first is true for
// the first frame of a connection. Next consumes nothing, so an idle connection requires no buffer other than that of r. It
// returns Err, or the error of reading.
func Next(r *bufio.Reader, first bool) (int, error) {
	for known := stun.ChannelDataHeaderLen; ; known = cookieEnd {
		head, err := r.Peek(known)
		if err != nil {
			return 0, err
		}
		if n, err := length(head, first); n > 0 || err != nil {
			return n, err
		}
	}
}

// length returns the length of the frame that begins with head, or 0 if more bytes are required to tell. It returns Err if no
// frame begins with head.
//
// On a stream, STUN messages follow one another without padding. ChannelData is padded to a multiple of four bytes that its
// length field does not count, RFC 8656 section 12.5. The first frame of a connection must be STUN. Otherwise the first letter
// of an HTTP GET would be read as the start of a long ChannelData message.
func length(head []byte, first bool) (int, error) {
	if len(head) < stun.ChannelDataHeaderLen {
		return 0, nil
	}
	n := Len(head)
	if stun.IsChannelData(head[0]) {
		if first {
			return 0, Err
		}
		return n, nil
	}
	if head[0]&0xC0 != 0 || n%4 != 0 {
		return 0, Err
	}
	// Check the magic cookie before waiting for bytes that a client of another protocol would never send.
	if len(head) < cookieEnd {
		return 0, nil
	}
	if binary.BigEndian.Uint32(head[4:]) != stun.MagicCookie {
		return 0, Err
	}
	return n, nil
}

// Len returns the length of a frame that begins with the four bytes in head, including header and padding.
func Len(head []byte) int {
	length := int(binary.BigEndian.Uint16(head[2:]))
	if stun.IsChannelData(head[0]) {
		return stun.ChannelDataHeaderLen + (length+3)&^3
	}
	return stun.HeaderLen + length
}
