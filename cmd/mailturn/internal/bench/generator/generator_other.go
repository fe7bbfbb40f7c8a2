//go:build !linux

package generator

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// A Generator requires system calls of Linux.
type Generator struct{}

// New returns errors.ErrUnsupported.
func New(Load, string) (*Generator, error) { return nil, errors.ErrUnsupported }

// InNamespace returns errors.ErrUnsupported, except in the namespace of this process.
func InNamespace(file string, f func() error) error {
	if file == "" {
		return f()
	}
	return errors.ErrUnsupported
}

func (*Generator) Ports() (clients, peers uint16) { return 0, 0 }
func (*Generator) Enter([]Call) error             { return errors.ErrUnsupported }
func (*Generator) Close()                         {}
func (*Generator) Run(context.Context, time.Duration) (Result, error) {
	return Result{}, errors.ErrUnsupported
}

// A Stream is part of a Generator.
type Stream struct{}

func NewStream(*net.TCPConn, *tls.Config) *Stream { return new(Stream) }
func (*Stream) Conn() net.Conn                    { return nil }
func (*Stream) Detach() error                     { return errors.ErrUnsupported }
func (*Stream) Close()                            {}

// An Association is part of a Generator.
type Association struct{}

func NewAssociation(net.Conn) *Association { return new(Association) }
func (*Association) Conn() net.Conn        { return nil }
func (*Association) Close()                {}
