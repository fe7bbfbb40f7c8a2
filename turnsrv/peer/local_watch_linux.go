package peer

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// LocalWatch reports when the result of LocalPrefixes, or the default route, may have changed. It is owned by one goroutine, except for Close.
type LocalWatch struct {
	socket *os.File
	raw    syscall.RawConn
	buf    [64 << 10]byte
}

// WatchLocal starts a watch. On unsupported systems it returns an error that is errors.ErrUnsupported.
func WatchLocal() (*LocalWatch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	w := &LocalWatch{socket: os.NewFile(uintptr(fd), "netlink")}
	groups := uint32(unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE)
	err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}))
	if err == nil {
		w.raw, err = w.socket.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch the addresses of this machine: %w", err), w.socket.Close())
	}
	return w, nil
}

// Next waits for a possible change since WatchLocal or the previous call. It returns an error after Close.
func (w *LocalWatch) Next() error {
	var failed error
	err := w.raw.Read(func(fd uintptr) (done bool) {
		done, failed = w.drain(int(fd))
		return done || failed != nil
	})
	return errors.Join(err, failed)
}

// drain reads the pending messages and reports whether any of them is relevant. On a router, most are not.
func (w *LocalWatch) drain(fd int) (changed bool, err error) {
	for {
		n, _, err := unix.Recvfrom(fd, w.buf[:], 0)
		switch err {
		case nil:
			changed = changed || concernsLocal(w.buf[:n])
		case unix.EINTR:
		case unix.EAGAIN:
			return changed, nil
		case unix.ENOBUFS: // messages were lost because there were too many
			changed = true
		default:
			return false, os.NewSyscallError("recvfrom", err)
		}
	}
}

// concernsLocal reports whether one of the messages in b concerns an address of this machine or a default route, or cannot be parsed.
func concernsLocal(b []byte) bool {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return true
	}
	for i := range messages {
		switch messages[i].Header.Type {
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			return true
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			// A default route chooses the address from which this machine sends. Byte 1 of struct rtmsg is the prefix length.
			if len(messages[i].Data) >= unix.SizeofRtMsg && messages[i].Data[1] == 0 {
				return true
			}
		}
		if _, ok, err := localRoute(&messages[i]); ok || err != nil {
			return true
		}
	}
	return false
}

// Close ends the watch and makes Next return.
func (w *LocalWatch) Close() error { return w.socket.Close() }
