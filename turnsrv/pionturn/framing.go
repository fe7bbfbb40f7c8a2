package pionturn

import (
	"bufio"
	"encoding/binary"
	"errors"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// errFraming is returned for bytes that are neither STUN nor ChannelData. Nobody knows where the next message would begin.
var errFraming = errors.New("stream is neither STUN nor ChannelData")

// nextFrame waits for the head of the next message and returns the length of the whole, padding included. It consumes nothing.
//
// Over a stream, STUN messages follow each other as they are, and ChannelData is padded to a multiple of four bytes, which its
// length does not count (RFC 8656 section 12.5). The first message must be STUN: the G of an HTTP request would make us wait
// for so much ChannelData.
func nextFrame(r *bufio.Reader, first bool) (int, error) {
	head, err := r.Peek(stun.ChannelDataHeaderLen)
	if err != nil {
		return 0, err
	}
	length := int(binary.BigEndian.Uint16(head[2:]))
	if stun.IsChannelData(head[0]) {
		if first {
			return 0, errFraming
		}
		return stun.ChannelDataHeaderLen + (length+3)&^3, nil
	}
	if head[0]&0xC0 != 0 || length%4 != 0 {
		return 0, errFraming
	}
	if head, err = r.Peek(8); err != nil {
		return 0, err
	}
	if binary.BigEndian.Uint32(head[4:]) != stun.MagicCookie {
		return 0, errFraming
	}
	return stun.HeaderLen + length, nil
}
