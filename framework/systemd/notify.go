// Package systemd talks to the service manager that has started the process: it reports the state of the process (sd_notify(3)),
// and keeps listening sockets open from one process to the next (sd_listen_fds(3)).
package systemd

import (
	"cmp"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
)

// A Manager is systemd, or another service manager that has set the variable NOTIFY_SOCKET. The zero value is none.
type Manager struct {
	// Socket is the variable's value.
	Socket string
}

// Notify sends assignments, such as READY=1, in one datagram.
func (m Manager) Notify(assignments ...string) error { return m.send(nil, assignments) }

// notifyOf sends assignments with the descriptor of conn.
func (m Manager) notifyOf(conn syscall.Conn, assignments ...string) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if controlErr := raw.Control(func(fd uintptr) { err = m.send(syscall.UnixRights(int(fd)), assignments) }); controlErr != nil {
		return controlErr
	}
	return err
}

// send sends a datagram with control messages.
func (m Manager) send(control []byte, assignments []string) error {
	if m.Socket == "" {
		return nil
	}
	// package net interprets a leading @ as the abstract namespace, as systemd does.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.Socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	// WriteMsgUnix accepts only connected stream sockets.
	message := []byte(strings.Join(assignments, "\n"))
	writeErr := raw.Write(func(fd uintptr) bool {
		err = os.NewSyscallError("sendmsg", syscall.Sendmsg(int(fd), message, control, nil, 0))
		return !errors.Is(err, syscall.EAGAIN)
	})
	return cmp.Or(writeErr, err)
}
