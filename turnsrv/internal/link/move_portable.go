package link

import (
	"errors"

	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// Owns implements Datagram.
func (l *portableDatagram) Owns(*handover.Link) bool { return false }

// Export implements Datagram.
func (l *portableDatagram) Export(*session.Export) ([]handover.Link, error) {
	return nil, errors.ErrUnsupported
}

// Restore implements Datagram.
func (l *portableDatagram) Restore(*handover.Incoming, []*handover.Link) error {
	return errors.ErrUnsupported
}

// cookie implements datagram.
func (l *portableDatagram) cookie() (uint64, error) { return 0, errors.ErrUnsupported }

// Release implements Datagram. It is not called, because Export fails.
func (l *portableDatagram) Release() {}
