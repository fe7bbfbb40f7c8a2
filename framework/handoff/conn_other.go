//go:build !linux

package handoff

import (
	"errors"
	"net"
	"os"
	"time"
)

// Pair returns errors.ErrUnsupported.
func Pair() (Conn, *os.File, error) { return Conn{}, nil, errors.ErrUnsupported }

// FromDescriptor returns errors.ErrUnsupported.
func FromDescriptor(int) (Conn, error) { return Conn{}, errors.ErrUnsupported }

// Conn is one end of the connection between a process and its successor.
type Conn struct{ *net.UnixConn }

// Send returns errors.ErrUnsupported.
func (Conn) Send(Message, time.Time) error { return errors.ErrUnsupported }

// Receive returns errors.ErrUnsupported.
func (Conn) Receive(time.Time) (Message, error) { return Message{}, errors.ErrUnsupported }

// CloseAll does nothing, because there are no descriptors that were received.
func CloseAll([]int) {}
