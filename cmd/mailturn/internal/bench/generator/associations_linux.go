package generator

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// An Association is a client's DTLS association with the server. Each Read and each Write of its connection is a message.
type Association struct{ conn net.Conn }

// NewAssociation takes ownership of a connection after its handshake.
func NewAssociation(conn net.Conn) *Association { return &Association{conn} }

// Conn returns the connection for requests. Its Close only ends pending reads.
func (a *Association) Conn() net.Conn { return borrowed{a.conn} }

// Close closes the association. It may be called more than once.
func (a *Association) Close() { _ = a.conn.Close() }

// waitingMessages is how many messages of all associations may wait for the generator.
const waitingMessages = 4096

// associations is a side that uses DTLS: an association for each call, each with a goroutine that reads it.
type associations struct {
	calls   []associationCall
	queued  []queuedMessage
	arrived chan arrival
	wake    int // an eventfd that is readable while something has arrived
	reading sync.WaitGroup
}

type associationCall struct {
	*Association
	channel stun.ChannelNumber
}

type queuedMessage struct {
	call    int
	message []byte
}

// arrival is the payload of a message, or the error that ended an association.
type arrival struct {
	call    int
	payload []byte
	err     error
}

func newAssociations(calls []Call) (*associations, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	s := &associations{arrived: make(chan arrival, waitingMessages), wake: wake}
	for i := range calls {
		c := associationCall{calls[i][Client].Association, calls[i][Client].Channel}
		if err := c.conn.SetReadDeadline(time.Time{}); err != nil {
			s.close()
			return nil, err
		}
		s.calls = append(s.calls, c)
		s.reading.Go(func() { s.read(i, c) })
	}
	return s, nil
}

// read passes what arrives on an association to the generator until it is closed.
func (s *associations) read(call int, c associationCall) {
	buf := make([]byte, 2*MaxSize) // of which a message needs little more than half
	for {
		n, err := c.conn.Read(buf)
		one := arrival{call: call, err: err}
		if err == nil {
			one.payload, one.err = c.parse(buf[:n])
		}
		select {
		case s.arrived <- one:
			_, _ = unix.Write(s.wake, binary.NativeEndian.AppendUint64(nil, 1))
		default: // lost
		}
		if err != nil {
			return
		}
	}
}

// parse returns a copy of the payload of a message.
func (c *associationCall) parse(message []byte) ([]byte, error) {
	number, payload, err := stun.ParseChannelData(message)
	if err == nil && number != c.channel {
		err = fmt.Errorf("%.20x came on channel %#x", message, c.channel)
	}
	return bytes.Clone(payload), err
}

func (s *associations) descriptor() int { return s.wake }

func (s *associations) close() {
	for _, c := range s.calls {
		c.Close()
	}
	s.reading.Wait()
	_ = unix.Close(s.wake)
}

func (s *associations) payload(call, size int) []byte {
	message := make([]byte, stun.ChannelDataHeaderLen+size)
	binary.BigEndian.PutUint16(message, uint16(s.calls[call].channel))
	binary.BigEndian.PutUint16(message[2:], uint16(size))
	s.queued = append(s.queued, queuedMessage{call, message})
	return message[stun.ChannelDataHeaderLen:]
}

func (s *associations) flush() error {
	for _, q := range s.queued {
		if _, err := s.calls[q.call].conn.Write(q.message); err != nil {
			return err
		}
	}
	s.queued = s.queued[:0]
	return nil
}

func (s *associations) receive(wait bool, came func(call int, payload []byte) error) (bool, error) {
	var count [8]byte
	_, _ = unix.Read(s.wake, count[:])
	var one arrival
	if wait {
		timer := time.NewTimer(quiet)
		defer timer.Stop()
		select {
		case one = <-s.arrived:
		case <-timer.C:
			return false, nil
		}
	} else {
		select {
		case one = <-s.arrived:
		default:
			return false, nil
		}
	}
	for {
		if one.err == nil {
			one.err = came(one.call, one.payload)
		}
		if one.err != nil {
			return true, fmt.Errorf("call %d: %w", one.call, one.err)
		}
		select {
		case one = <-s.arrived:
		default:
			return true, nil
		}
	}
}
