package framing

import (
	"errors"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// ErrLong is returned for a frame that exceeds the limit.
var ErrLong = errors.New("frame is too long")

// Cutter cuts frames out of a stream that arrives in pieces. It does not copy a frame that arrives whole, and between frames it
// holds no memory. The zero value is ready for use.
type Cutter struct {
	partial []byte // the beginning of the next frame
	begun   bool   // a frame has been returned
}

// Cut returns the next frame and the bytes of b that follow it. b is the next piece of the stream, or the rest that the previous
// call returned. If b does not complete a frame, Cut keeps a copy of it and returns neither. The frame is valid until the next
// call, and no longer than b. limit is the maximum length of the frame in bytes. The error is Err or ErrLong, after which the
// stream is unusable.
func (c *Cutter) Cut(b []byte, limit int) (frame, rest []byte, err error) {
	if len(c.partial) == 0 {
		n, err := c.length(b, limit)
		if err != nil {
			return nil, nil, err
		}
		if n == 0 || n > len(b) {
			c.partial = append(c.partial, b...)
			return nil, nil, nil
		}
		c.begun = true
		return b[:n:n], b[n:], nil
	}
	for {
		n, err := c.length(c.partial, limit)
		if err != nil {
			return nil, nil, err
		}
		missing := n - len(c.partial)
		switch {
		case n > 0 && missing == 0:
			frame, c.partial, c.begun = c.partial, nil, true
			return frame, b, nil
		case len(b) == 0:
			return nil, nil, nil
		case n == 0 && len(c.partial) < stun.ChannelDataHeaderLen:
			missing = stun.ChannelDataHeaderLen - len(c.partial)
		case n == 0:
			missing = cookieEnd - len(c.partial)
		}
		missing = min(missing, len(b))
		c.partial, b = append(c.partial, b[:missing]...), b[missing:]
	}
}

// Export returns the frame that has begun to arrive, and whether another one has been cut. The frame is valid until the next call of
// Cut.
func (c *Cutter) Export() (partial []byte, begun bool) { return c.partial, c.begun }

// Restore returns a Cutter in the state that Export has returned.
func Restore(partial []byte, begun bool) Cutter { return Cutter{partial: partial, begun: begun} }

func (c *Cutter) length(head []byte, limit int) (int, error) {
	n, err := length(head, !c.begun)
	if n > limit {
		return 0, ErrLong
	}
	return n, err
}
