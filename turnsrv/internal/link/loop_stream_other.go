//go:build !linux

package link

import (
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// loopStream does not exist on this system.
type loopStream struct{}

type streamBuffers struct{}

func (*stream) move() bool { return false }

func (*loopStream) enqueue([]byte, session.Priority) error { return nil }

func (*loopStream) giveUp() {}

func (*loopStream) end() {}
