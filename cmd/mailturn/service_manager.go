package main

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// serviceManager is systemd, or whoever else started the process with the variable NOTIFY_SOCKET (sd_notify(3)). It is told
// what the process is doing, so that "systemctl start" returns when the endpoints listen and "systemctl status" says what
// serves. With an empty socket nobody is told.
type serviceManager struct {
	socket string
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
	if m.socket == "" {
		return
	}
	conn, err := net.Dial("unixgram", m.socket) // net takes an @ in front for the abstract namespace, as systemd means it
	if err == nil {
		_, err = conn.Write([]byte(strings.Join(assignments, "\n")))
		conn.Close()
	}
	if err != nil {
		m.logger.Warn("telling the service manager", "err", err)
	}
}
