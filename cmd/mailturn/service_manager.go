package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/mailturn/mailturn/framework/systemd"
)

// serviceManager is told what the process is doing, so that "systemctl start" returns when the endpoints listen and "systemctl
// status" says what serves.
type serviceManager struct {
	systemd.Manager
	logger *slog.Logger
}

// ready says that all endpoints listen, at first or again after reloading. status is a line for people.
func (m serviceManager) ready(status string) { m.tell("READY=1", "STATUS="+status) }

// reloading says that the configuration is being read again; ready says when that is over. A unit of Type=notify-reload,
// which came with systemd 253, needs the time to know its own SIGHUP in it.
func (m serviceManager) reloading() {
	m.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()))
}

// stopping says that the process is ending and may take as long as within, even if TimeoutStopSec= of the unit is shorter.
func (m serviceManager) stopping(status string, within time.Duration) {
	m.tell("STOPPING=1", "STATUS="+status, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", within.Microseconds()))
}

// tell sends assignments in one datagram. A manager that cannot be reached is no reason not to serve.
func (m serviceManager) tell(assignments ...string) {
	if err := m.Notify(assignments...); err != nil {
		m.logger.Warn("telling the service manager", "err", err)
	}
}
