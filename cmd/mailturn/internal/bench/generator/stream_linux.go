package generator

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Stream is a client's connection to the server over TCP or TLS. At first, it is a net.Conn for requests and their answers;
// Detach makes it part of a generator.
type Stream struct {
	raw  *rawStream
	conn net.Conn // raw, or TLS on it
}

// NewStream takes ownership of a connection. With a config, TLS starts with the first write.
func NewStream(conn *net.TCPConn, config *tls.Config) *Stream {
	raw := &rawStream{Conn: conn, fd: -1}
	s := &Stream{raw: raw, conn: raw}
	if config != nil {
		s.conn = tls.Client(raw, config)
	}
	return s
}

// Conn returns the connection for requests. Its Close only ends pending reads.
func (s *Stream) Conn() net.Conn { return borrowed{s.conn} }

// borrowed is a connection that is used temporarily.
type borrowed struct{ net.Conn }

func (b borrowed) Close() error { return b.SetReadDeadline(time.Unix(1, 0)) }

// Detach removes the connection from the Go runtime: reads no longer wait.
func (s *Stream) Detach() error {
	conn := s.raw.Conn.(*net.TCPConn)
	file, err := conn.File()
	if err != nil {
		return err
	}
	defer file.Close()
	if s.raw.fd, err = unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return err
	}
	if err := conn.Close(); err != nil { // only the runtime's descriptor
		return err
	}
	return unix.SetNonblock(s.raw.fd, true)
}

// Close closes the connection if it is open.
func (s *Stream) Close() {
	if s.raw.fd >= 0 {
		_ = unix.Close(s.raw.fd)
		s.raw.fd = -1
	}
	_ = s.raw.Conn.Close()
}

// rawStream is a TCP connection, of the Go runtime or of ours.
type rawStream struct {
	net.Conn
	fd int // -1 until it is ours
}

// errWouldBlock is returned by reads if nothing has arrived. It is a temporary error, because after other errors crypto/tls reads
// no more.
var errWouldBlock error = os.ErrDeadlineExceeded

func (r *rawStream) Read(b []byte) (int, error) {
	if r.fd < 0 {
		return r.Conn.Read(b)
	}
	for {
		n, err := unix.Read(r.fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, errWouldBlock
		case err != nil:
			return 0, err
		case n == 0:
			return 0, errors.New("the server has closed the connection")
		default:
			return n, nil
		}
	}
}

// Write waits until everything is written.
func (r *rawStream) Write(b []byte) (written int, err error) {
	if r.fd < 0 {
		return r.Conn.Write(b)
	}
	for written < len(b) {
		n, err := unix.Write(r.fd, b[written:])
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			polled := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLOUT}}
			if n, err := unix.Poll(polled, int(writeLimit.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
				return written, err
			} else if n == 0 && err == nil {
				return written, errors.New("the server has not read for a long time")
			}
		case err != nil:
			return written, err
		default:
			written += n
		}
	}
	return written, nil
}

// writeLimit is how long a server may not read from a connection.
const writeLimit = 10 * time.Second
