package imap

import (
	"context"
	"time"
)

// StopIssuing makes a client that asks for a credential get BYE from here on, because another process serves, and it, and its bans, would
// not know whose the credential is.
func (e *Endpoint) StopIssuing() { e.retired.Store(true) }

// StopAccepting closes the listening sockets in this process. Another process has them, too, and accepts their connections. StopIssuing
// must have been called.
func (e *Endpoint) StopAccepting() {
	closeListeners(e.listeners)
	e.accepting.Wait()
}

// Retire sends BYE to one client after the other, each as soon as it is not waiting for anything, at regular intervals within
// upgrade_timeout. It returns when all have been told or are gone, or when ctx is done. StopAccepting must have been called; Shutdown
// ends what remains.
func (e *Endpoint) Retire(ctx context.Context) {
	sessions := e.runningSessions()
	if len(sessions) == 0 {
		return
	}
	e.logger.Info("ending connections after the upgrade", "connections", len(sessions), "upgrade_timeout", e.present.config.UpgradeTimeout)
	ticker := time.NewTicker(max(e.present.config.UpgradeTimeout/time.Duration(len(sessions)), 1))
	defer ticker.Stop()
	for _, s := range sessions {
		select {
		case <-ticker.C:
			s.drain()
		case <-ctx.Done():
			return
		}
		if len(e.runningSessions()) == 0 {
			return
		}
	}
}
