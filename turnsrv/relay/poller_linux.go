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

// maxEvents is how many sockets a poller reads from before it asks the system again.
const maxEvents = 128

// sockets opens the sockets of an Allocator, and has pollers read them, one for each processor. The zero value is ready.
type sockets struct {
	mu      sync.Mutex // guards what follows
	pollers []*poller  // made when there is a first socket
	next    int        // whose turn it is
	closed  bool
}

// poller returns the one that reads the next socket.
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

// close ends the pollers. Sockets that are still open hear nothing any more.
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

// poller reads many sockets on one goroutine, into one inbox. Its epoll instance is itself watched by Go's poller, so that the
// goroutine waits without a thread of its own.
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
	if err := unix.SetNonblock(fd, true); err != nil { // os.NewFile asks for it
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

// add begins to read s.
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

// remove forgets a descriptor that is about to be closed, with which the system forgets it too.
func (p *poller) remove(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sockets, int32(fd))
}

// socket returns the one that fd is now. An event may be older than that: then there is nothing to receive.
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
	for p.raw.Read(round) == nil { // which waits after a round that leaves nothing
	}
}

// round takes a batch of every socket that has some, so that none keeps the others waiting, and reports whether there may be more.
// Whatever comes after that wakes the goroutine that waits: Go's poller is told of each datagram.
func (p *poller) round(epoll int, events []unix.EpollEvent, inbox *udp.Inbox) (more bool) {
	// Without a timeout it does not wait, so that the scheduler need not know of it: see package udp.
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
			// The system has no memory, or something of which nothing is known. It must not take a core.
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
