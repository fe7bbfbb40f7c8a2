//go:build !linux

package link

import (
	"errors"
	"net"

	"github.com/mailturn/mailturn/turnsrv/internal/loop"
)

// newLoopDatagram returns errors.ErrUnsupported: there are no event loops on this system.
func newLoopDatagram(*net.UDPConn, *loop.Loop, *receiver) (datagram, error) {
	return nil, errors.ErrUnsupported
}
