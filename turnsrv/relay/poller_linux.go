package relay

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// maxEvents is the maximum number of sockets that a poller reads from before it polls again.
const maxEvents = 128

// sockets opens the sockets of an Allocator and reads them with one poller per processor. The zero value is ready for use.
type sockets struct {
	mu      sync.Mutex // guards what follows
	pollers []*poller  // created with the first socket
	next    int        // index of the poller for the next socket
	closed  bool
}

// poller returns the poller that will read the next socket.
func (s *sockets) poller() (*poller, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.next == len(s.pollers) && len(s.pollers) < runtime.GOMAXPROCS(0) {
		p, err := newPoller()
		if err != nil {
			return nil, err
		}
		s.pollers = append(s.pollers, p)
	}
	s.next %= len(s.pollers)
	p := s.pollers[s.next]
	s.next++
	return p, nil
}

// close ends the pollers. Sockets that are still open receive nothing more.
func (s *sockets) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, p := range s.pollers {
		errs = append(errs, p.close())
	}
	s.pollers = nil
	return errors.Join(errs...)
}

// poller reads many sockets on one goroutine into one inbox. Go's network poller watches its epoll instance, so the goroutine
// waits without occupying a thread.
type poller struct {
	epoll  *os.File
	raw    syscall.RawConn
	reader sync.WaitGroup

	mu      sync.RWMutex // guards what follows
	sockets map[int32]*polledSocket
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // os.NewFile requires it
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{epoll: os.NewFile(uintptr(fd), "relay sockets"), sockets: make(map[int32]*polledSocket)}
	if p.raw, err = p.epoll.SyscallConn(); err != nil {
		return nil, errors.Join(err, p.epoll.Close())
	}
	p.reader.Go(p.read)
	return p, nil
}

// add starts reading s.
func (p *poller) add(s *polledSocket) error {
	fd := int32(s.fd)
	p.mu.Lock()
	p.sockets[fd] = s
	p.mu.Unlock()
	var failed error
	err := p.raw.Control(func(epoll uintptr) {
		failed = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: fd})
	})
	if err = errors.Join(err, failed); err != nil {
		p.remove(s.fd)
		return fmt.Errorf("watch relay socket: %w", err)
	}
	return nil
}

// remove removes a descriptor that is about to be closed. Closing it also removes it from the epoll instance.
func (p *poller) remove(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sockets, int32(fd))
}

// socket returns the socket that currently has fd, which may be newer than the event. There is nothing to receive then.
func (p *poller) socket(fd int32) *polledSocket {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.sockets[fd]
}

// read reads until the poller is closed.
func (p *poller) read() {
	inbox := udp.NewInbox()
	events := make([]unix.EpollEvent, maxEvents)
	round := func(epoll uintptr) (done bool) { return p.round(int(epoll), events, inbox) }
	for p.raw.Read(round) == nil { // waits after a round that leaves nothing to read
	}
}

// round reads one batch from each ready socket, so that no socket delays the others. It reports whether more may be available.
// Datagrams that arrive later wake the waiting goroutine, because Go's network poller is notified of each one.
func (p *poller) round(epoll int, events []unix.EpollEvent, inbox *udp.Inbox) (more bool) {
	// With a timeout of zero, the call does not block, so the scheduler need not be informed: see package udp.
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return errno == unix.EINTR
	}
	more = int(n) == len(events)
	for _, event := range events[:n] {
		s := p.socket(event.Fd)
		if s == nil {
			continue
		}
		again, err := s.receive(inbox)
		if err != nil {
			// The system is out of memory, or the error is unknown. Pause, so that the loop does not take a whole core.
			time.Sleep(time.Millisecond)
		}
		more = more || again
	}
	return more
}

func (p *poller) close() error {
	err := p.epoll.Close()
	p.reader.Wait()
	return err
}
