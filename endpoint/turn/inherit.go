package turn

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// File returns a descriptor of the socket for another process. It stays valid when the socket is closed.
func (s Socket) File() (*os.File, error) {
	var conn any = s.Packets
	if listener, ok := s.Streams.(tcpListener); ok {
		conn = listener.Listener
	}
	filed, ok := conn.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("%v: %w", s.Address, errors.ErrUnsupported)
	}
	return filed.File()
}

// Inherit returns the sockets for c that Open has bound in the parent process, which has passed them in order as the descriptors
// beginning with first.
func Inherit(c Config, first int) ([]Socket, error) {
	sockets := c.sockets()
	for i := range sockets {
		if err := sockets[i].take(os.NewFile(uintptr(first+i), sockets[i].Address.String())); err != nil {
			return nil, errors.Join(fmt.Errorf("take over %v: %w", sockets[i].Address, err), closeAll(sockets[:i]))
		}
	}
	return sockets, nil
}

// take sets the socket of s from a descriptor, which it closes.
func (s *Socket) take(file *os.File) (err error) {
	if network, _ := carrier(s.Address.Scheme); network == "udp" {
		s.Packets, err = net.FilePacketConn(file)
	} else if s.Streams, err = net.FileListener(file); err == nil {
		s.Streams = tcpListener{s.Streams}
	}
	return errors.Join(err, file.Close())
}
