package turn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/turnsrv"
)

// socketName is the name of a listening socket for the next process. The sockets of all workers have the same.
func (c *Config) socketName(s Socket) string {
	network, _ := carrier(s.Address.Scheme)
	return fmt.Sprintf(namePrefix+"%q %s %s", c.Name, network, s.Address.HostPort())
}

const namePrefix = "turn "

// IsSocketName reports whether name is that of a listening socket of a TURN endpoint.
func IsSocketName(name string) bool { return strings.HasPrefix(name, namePrefix) }

// takeSockets returns the sockets that the endpoint needs, of which those are open that another process has passed, and further ones
// with the same UDP addresses.
func (c *Config) takeSockets() (sockets, others []Socket, err error) {
	sockets = c.sockets()
	for i := range sockets {
		s := &sockets[i]
		if s.shared != nil {
			continue
		}
		name := c.socketName(*s)
		for file := c.Sockets.Take(name); file != nil; file = c.Sockets.Take(name) {
			another := *s
			if err := another.take(file); err != nil {
				return nil, nil, errors.Join(fmt.Errorf("take over %v: %w", s.Address, err), closeAll(sockets), closeAll(others))
			}
			if !s.opened() {
				*s = another
			} else {
				others = append(others, another)
			}
		}
	}
	return sockets, others, nil
}

// keepSockets makes the sockets available to the next process.
func (e *Endpoint) keepSockets() error {
	for _, s := range e.sockets {
		var conn any = s.Packets
		if listener, ok := s.Streams.(tcpListener); ok {
			conn = listener.Listener
		}
		raw, ok := conn.(syscall.Conn)
		if !ok {
			continue
		}
		if s.Streams != nil {
			e.config.Sockets.Offer(e.config.socketName(s), raw)
		} else if err := e.config.Sockets.Keep(e.config.socketName(s), raw); err != nil {
			return fmt.Errorf("keep %v for an upgrade: %w", s.Address, err)
		}
	}
	return nil
}

// withdrawSockets undoes keepSockets.
func (e *Endpoint) withdrawSockets() {
	for _, s := range e.sockets {
		e.config.Sockets.Withdraw(e.config.socketName(s))
	}
}

// Suspended is an endpoint that does nothing, so that another process can take over its calls: see turnsrv.Suspended.
type Suspended struct {
	*turnsrv.Suspended
	endpoint *Endpoint
}

// Suspend stops the relay, until Suspended.Resume or Suspended.Release is called. version is one of the state that the other process
// reads.
func (e *Endpoint) Suspend(version int) (*Suspended, error) {
	suspended, err := e.server.Load().Suspend(version)
	if err != nil {
		return nil, err
	}
	return &Suspended{suspended, e}, nil
}

// Release ends the endpoint, whose calls another process serves. It is called instead of Endpoint.Shutdown.
func (s *Suspended) Release() error {
	e := s.endpoint
	e.stopped.Store(true)
	return e.close(s.Suspended.Release())
}

// Restore takes over the calls of another process: see turnsrv.Server.Restore.
func (e *Endpoint) Restore(ctx context.Context, state []byte, descriptors []int) error {
	return e.server.Load().Restore(ctx, state, descriptors)
}

// Begin makes an endpoint with Config.Successor serve.
func (e *Endpoint) Begin() {
	e.server.Load().Begin()
	e.followPorts(time.Now())
}
