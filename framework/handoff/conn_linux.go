package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxHeader is the size limit of a header in bytes, and MaxBody that of a body.
	maxHeader = 192 << 10
	MaxBody   = 1 << 30
	// maxDescriptors is how many descriptors one message of the system may have (SCM_MAX_FD, unix(7)).
	maxDescriptors = 253
	// MaxDescriptors is how many descriptors Receive accepts.
	MaxDescriptors = 1 << 20
)

// header is the first packet of a message. The others carry its descriptors.
type header struct {
	Message
	Length      int  `json:"length"`
	Descriptors int  `json:"descriptors"`
	HasBody     bool `json:"has_body"`
}

// Conn is one end of the connection between a process and its successor. It is for one goroutine.
type Conn struct{ *net.UnixConn }

// Pair returns the two ends of a connection. The second one is for another process.
func Pair() (Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Conn{}, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "successor")
	ours, err := FromDescriptor(fds[0])
	if err != nil {
		return Conn{}, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// FromDescriptor returns a Conn for a descriptor, which it closes.
func FromDescriptor(fd int) (Conn, error) {
	file := os.NewFile(uintptr(fd), "predecessor")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return Conn{}, err
	}
	packets, ok := conn.(*net.UnixConn)
	if !ok {
		return Conn{}, errors.Join(fmt.Errorf("descriptor %d is no Unix socket", fd), conn.Close())
	}
	return Conn{packets}, nil
}

// Send sends a message. The descriptors remain those of the caller.
func (c Conn) Send(m Message, deadline time.Time) error {
	if err := c.SetWriteDeadline(deadline); err != nil {
		return err
	}
	text, err := json.Marshal(header{m, len(m.Body), len(m.Descriptors), m.Body != nil})
	if err != nil {
		return err
	}
	var first []byte
	if m.Body != nil {
		body, err := memoryFile(m.Body)
		if err != nil {
			return err
		}
		defer unix.Close(body)
		first = unix.UnixRights(body)
	}
	if _, _, err := c.WriteMsgUnix(text, first, nil); err != nil {
		return err
	}
	for rest := m.Descriptors; len(rest) > 0; {
		n := min(len(rest), maxDescriptors)
		if _, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(rest[:n]...), nil); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// memoryFile returns a file in memory with the given contents, which cannot be changed.
func memoryFile(contents []byte) (fd int, err error) {
	fd, err = unix.MemfdCreate("mailturn-state", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	for rest := contents; len(rest) > 0 && err == nil; {
		var n int
		if n, err = unix.Write(fd, rest); err == nil {
			rest = rest[n:]
		}
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("memory file: %w", err)
	}
	return fd, nil
}

// Receive receives a message, whose descriptors are the caller's. It returns io.EOF if the other process has ended.
func (c Conn) Receive(deadline time.Time) (m Message, err error) {
	if err := c.SetReadDeadline(deadline); err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			CloseAll(m.Descriptors)
			m = Message{}
		}
	}()
	b := make([]byte, maxHeader)
	n, carried, err := c.receive(b)
	if err != nil {
		return m, err
	}
	defer CloseAll(carried)
	var h header
	if err := json.Unmarshal(b[:n], &h); err != nil {
		return m, fmt.Errorf("message of the other process: %w", err)
	}
	if h.HasBody != (len(carried) == 1) || h.Length < 0 || h.Length > MaxBody || h.Descriptors < 0 || h.Descriptors > MaxDescriptors {
		return m, errMessage
	}
	m = h.Message
	if h.HasBody {
		if m.Body, err = contents(carried[0], h.Length); err != nil {
			return m, err
		}
	}
	for len(m.Descriptors) < h.Descriptors {
		_, some, err := c.receive(b[:1])
		m.Descriptors = append(m.Descriptors, some...)
		if err == nil && (len(some) == 0 || len(m.Descriptors) > h.Descriptors) {
			err = errMessage
		}
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

var errMessage = errors.New("the other process sent a malformed message")

// receive receives a packet and its descriptors.
func (c Conn) receive(b []byte) (n int, descriptors []int, err error) {
	control := make([]byte, unix.CmsgSpace(4*maxDescriptors))
	n, controlLen, flags, _, err := c.ReadMsgUnix(b, control)
	if err != nil {
		return 0, nil, err
	}
	messages, err := syscall.ParseSocketControlMessage(control[:controlLen])
	if err != nil {
		return 0, nil, err
	}
	for _, message := range messages {
		some, err := syscall.ParseUnixRights(&message)
		if err != nil {
			continue
		}
		descriptors = append(descriptors, some...)
	}
	switch {
	case flags&unix.MSG_CTRUNC != 0: // this process has no descriptors left
		CloseAll(descriptors)
		return 0, nil, os.NewSyscallError("recvmsg", unix.EMFILE)
	case n == 0:
		CloseAll(descriptors)
		return 0, nil, io.EOF
	}
	return n, descriptors, nil
}

// contents returns what a memory file contains.
func contents(fd, length int) ([]byte, error) {
	b := make([]byte, length)
	for done := 0; done < length; {
		n, err := unix.Pread(fd, b[done:], int64(done))
		if err != nil {
			return nil, os.NewSyscallError("pread", err)
		}
		if n == 0 {
			return nil, errMessage
		}
		done += n
	}
	return b, nil
}

// CloseAll closes descriptors.
func CloseAll(descriptors []int) {
	for _, fd := range descriptors {
		_ = unix.Close(fd)
	}
}
