// Package framing cuts the messages of TURN out of a stream (RFC 8656 section 12.5).
package framing

import (
	"bufio"
	"encoding/binary"
	"errors"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Err is returned for bytes that are neither STUN nor ChannelData. The connection is of no use any more: nobody
// knows where the next message would begin.
var Err = errors.New("stream is neither STUN nor ChannelData")

// Next waits until the head of the next frame has arrived and returns the length of the whole frame, padding included. first is
// true for the first frame of a connection. It consumes nothing, so a connection that says nothing costs no buffer but r's. It
// returns Err, or what reading returned.
//
// Over a stream, STUN messages follow one another as they are, and ChannelData is padded to a multiple of four bytes that
// its length does not count, RFC 8656 section 12.5. The first frame of a connection must be STUN: otherwise the G of an
// HTTP request would have us wait for so much ChannelData.
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
	// With the magic cookie, before anything is waited for that another protocol would never send.
	if head, err = r.Peek(8); err != nil {
		return 0, err
	}
	if binary.BigEndian.Uint32(head[4:]) != stun.MagicCookie {
		return 0, Err
	}
	return length, nil
}

// Len returns the length that a frame declares in its first four bytes, with header and padding.
func Len(head []byte) int {
	length := int(binary.BigEndian.Uint16(head[2:]))
	if stun.IsChannelData(head[0]) {
		return stun.ChannelDataHeaderLen + (length+3)&^3
	}
	return stun.HeaderLen + length
}
