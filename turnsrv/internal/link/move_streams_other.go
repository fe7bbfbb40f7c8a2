//go:build !linux

package link

import (
	"errors"

	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// Export returns errors.ErrUnsupported: there are no event loops on this system.
func (l *Streams) Export(*session.Export) ([]handover.Link, error) { return nil, errors.ErrUnsupported }

// Owns returns false.
func (l *Streams) Owns(*handover.Link) bool { return false }

// Restore returns errors.ErrUnsupported.
func (l *Streams) Restore(*handover.Incoming, []*handover.Link) error { return errors.ErrUnsupported }

// Release is not called, because Export fails.
func (l *Streams) Release() {}

// Suspend returns errors.ErrUnsupported.
func (l *Streams) Suspend() error { return errors.ErrUnsupported }

// Resume makes the link accept connections again.
func (l *Streams) Resume() { l.gate.open() }
