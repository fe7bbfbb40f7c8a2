package handoff

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

func tcpName(hostPort string) string { return "tcp " + hostPort }

// ListenTCP returns the socket that listens on HOST:PORT: the one that was passed, or else a new one, and offers it.
func (s *Sockets) ListenTCP(ctx context.Context, hostPort string) (net.Listener, error) {
	listener, err := s.takeListener(tcpName(hostPort))
	if listener == nil && err == nil {
		listener, err = new(net.ListenConfig).Listen(ctx, "tcp", hostPort)
	}
	if err != nil {
		return nil, err
	}
	s.Offer(tcpName(hostPort), listener.(syscall.Conn))
	return listener, nil
}

// TakeTCP returns all sockets for HOST:PORT that were passed, such as one of each family, and offers them.
func (s *Sockets) TakeTCP(hostPort string) (all []net.Listener, err error) {
	for {
		listener, err := s.takeListener(tcpName(hostPort))
		if err != nil {
			for _, taken := range all {
				err = errors.Join(err, taken.Close())
			}
			return nil, err
		}
		if listener == nil {
			return all, nil
		}
		all = append(all, listener)
		s.Offer(tcpName(hostPort), listener.(syscall.Conn))
	}
}

// OfferTCP offers a socket that listens on HOST:PORT.
func (s *Sockets) OfferTCP(hostPort string, listener *net.TCPListener) {
	s.Offer(tcpName(hostPort), listener)
}

// TakeUnix returns the socket that listens on a path, if it was passed, or nil.
func (s *Sockets) TakeUnix(path string) (*net.UnixListener, error) {
	listener, err := s.takeListener(unixName(path))
	if listener == nil || err != nil {
		return nil, err
	}
	return listener.(*net.UnixListener), nil
}

// OfferUnix offers a socket that listens on a path.
func (s *Sockets) OfferUnix(path string, listener *net.UnixListener) {
	s.Offer(unixName(path), listener)
}

func unixName(path string) string { return "unix " + path }

// takeListener returns a socket that was passed under name, or nil.
func (s *Sockets) takeListener(name string) (net.Listener, error) {
	file := s.Take(name)
	if file == nil {
		return nil, nil
	}
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", name, err)
	}
	return listener, nil
}
