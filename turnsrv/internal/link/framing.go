package link

import (
	"bufio"
	"encoding/binary"
	"errors"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// maxUnallocatedFrame bounds the frames of a connection that has no allocation, in bytes. Nobody has been authenticated
// there, and the longest honest request is made of a few attributes of 763 bytes at most.
const maxUnallocatedFrame = 4096

// errFraming is returned for bytes that are neither STUN nor ChannelData. The connection is of no use any more: nobody
// knows where the next message would begin.
var errFraming = errors.New("stream is neither STUN nor ChannelData")

// nextFrame waits until the head of the next frame has arrived and returns the length of the whole frame, padding
// included. It consumes nothing, so that a connection that says nothing costs no buffer but r's.
//
// Over a stream, STUN messages follow one another as they are, and ChannelData is padded to a multiple of four bytes that
// its length does not count, RFC 8656 section 12.5. The first frame of a connection must be STUN: otherwise the G of an
// HTTP request would have us wait for so much ChannelData.
func nextFrame(r *bufio.Reader, first bool) (int, error) {
	head, err := r.Peek(stun.ChannelDataHeaderLen)
	if err != nil {
		return 0, err
	}
	length := FrameLen(head)
	if stun.IsChannelData(head[0]) {
		if first {
			return 0, errFraming
		}
		return length, nil
	}
	if head[0]&0xC0 != 0 || length%4 != 0 {
		return 0, errFraming
	}
	// With the magic cookie, before anything is waited for that another protocol would never send.
	if head, err = r.Peek(8); err != nil {
		return 0, err
	}
	if binary.BigEndian.Uint32(head[4:]) != stun.MagicCookie {
		return 0, errFraming
	}
	return length, nil
}

// FrameLen returns the length that a frame declares in its first four bytes, with header and padding.
func FrameLen(head []byte) int {
	length := int(binary.BigEndian.Uint16(head[2:]))
	if stun.IsChannelData(head[0]) {
		return stun.ChannelDataHeaderLen + (length+3)&^3
	}
	return stun.HeaderLen + length
}
