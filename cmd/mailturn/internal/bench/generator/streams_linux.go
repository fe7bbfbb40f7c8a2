package generator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// streams is a side that uses TCP or TLS: a connection for each call.
type streams struct {
	epoll  int
	events []unix.EpollEvent
	calls  []streamCall
	queued []int // calls with something to send
}

// streamCall is one call's connection.
type streamCall struct {
	stream  *Stream
	channel stun.ChannelNumber
	out     []byte
	in      []byte // the beginning of a frame that has arrived, followed by room for more
	have    int    // bytes in in
}

func newStreams(calls []Call) (_ *streams, err error) {
	s := &streams{calls: make([]streamCall, len(calls)), events: make([]unix.EpollEvent, len(calls))}
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	for i := range calls {
		c := calls[i][Client]
		s.calls[i] = streamCall{stream: c.Stream, channel: c.Channel, in: make([]byte, 64<<10)}
		if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, c.Stream.raw.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			_ = unix.Close(s.epoll)
			return nil, err
		}
	}
	return s, nil
}

func (s *streams) descriptor() int { return s.epoll }

func (s *streams) close() {
	for i := range s.calls {
		s.calls[i].stream.Close()
	}
	_ = unix.Close(s.epoll)
}

func (s *streams) payload(call, size int) []byte {
	c := &s.calls[call]
	if len(c.out) == 0 {
		s.queued = append(s.queued, call)
	}
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(c.channel))
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(size))
	begin := len(c.out)
	c.out = append(c.out, make([]byte, padded(size))...)
	return c.out[begin : begin+size]
}

// padded returns the length of a payload with its padding on a stream, RFC 8656 section 12.5.
func padded(size int) int { return (size + 3) &^ 3 }

func (s *streams) flush() error {
	for _, call := range s.queued {
		c := &s.calls[call]
		_, err := c.stream.conn.Write(c.out)
		c.out = c.out[:0]
		if err != nil {
			return err
		}
	}
	s.queued = s.queued[:0]
	return nil
}

func (s *streams) receive(wait bool, came func(call int, payload []byte) error) (bool, error) {
	timeout := 0
	if wait {
		timeout = int(quiet.Milliseconds())
	}
	n, err := unix.EpollWait(s.epoll, s.events, timeout)
	if err != nil {
		if errors.Is(err, unix.EINTR) {
			return true, nil // poll again
		}
		return false, err
	}
	for _, e := range s.events[:n] {
		if err := s.read(int(e.Fd), came); err != nil {
			return true, fmt.Errorf("call %d: %w", e.Fd, err)
		}
	}
	return n > 0, nil
}

// read processes what has arrived on a connection.
func (s *streams) read(call int, came func(call int, payload []byte) error) error {
	c := &s.calls[call]
	bare := c.stream.conn == net.Conn(c.stream.raw)
	for {
		room := len(c.in) - c.have
		n, err := c.stream.conn.Read(c.in[c.have:])
		if errors.Is(err, errWouldBlock) {
			return nil
		}
		if err != nil {
			return err
		}
		c.have += n
		used := 0
		for c.have-used >= stun.ChannelDataHeaderLen {
			frame := c.in[used:c.have]
			number, size := stun.ChannelNumber(binary.BigEndian.Uint16(frame)), int(binary.BigEndian.Uint16(frame[2:]))
			if number != c.channel {
				return fmt.Errorf("%.20x came on channel %#x", frame, c.channel)
			}
			length := stun.ChannelDataHeaderLen + padded(size)
			if length > len(frame) {
				break
			}
			used += length
			if err := came(call, frame[stun.ChannelDataHeaderLen:stun.ChannelDataHeaderLen+size]); err != nil {
				return err
			}
		}
		c.have = copy(c.in, c.in[used:c.have])
		if c.have == len(c.in) {
			return errors.New("a frame is longer than any that was sent")
		}
		if bare && n < room {
			return nil // nothing more has arrived; TLS may hold another record
		}
	}
}
