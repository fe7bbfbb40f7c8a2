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

// ready reports that all endpoints listen, at first or again after reloading. status is a line for people.
func (m serviceManager) ready(status string) { m.tell("READY=1", "STATUS="+status) }

// reloading reports that the configuration is being read again, until ready. A unit of Type=notify-reload, which systemd has since
// version 253, requires the time to match the report with its SIGHUP.
func (m serviceManager) reloading() {
	m.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()))
}

// follow reports that another process, of the same service, is the one that serves. What else this process reports has no effect then.
func (m serviceManager) follow(pid int) { m.tell(fmt.Sprintf("MAINPID=%d", pid)) }

// stopping reports that the process is ending and may take as long as within, even if TimeoutStopSec= of the unit is shorter.
func (m serviceManager) stopping(status string, within time.Duration) {
	m.tell("STOPPING=1", "STATUS="+status, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", within.Microseconds()))
}

// tell sends assignments in one datagram. An unreachable manager is not an error.
func (m serviceManager) tell(assignments ...string) {
	if err := m.Notify(assignments...); err != nil {
		m.logger.Warn("telling the service manager", "err", err)
	}
}
