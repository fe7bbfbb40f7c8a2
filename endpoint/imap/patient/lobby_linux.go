package patient

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Lobby is where connections wait that have been quiet for a while. One goroutine waits for all of them: one for each connection
// would need more memory than everything else that a session without TLS holds meanwhile.
type Lobby struct {
	mu      sync.Mutex // taken after Conn.mu
	epoll   *os.File   // nil before the first connection, and if there are no descriptors left
	fd      int        // of epoll
	waiting []*Conn    // by descriptor
}

// add makes the lobby wait for c, which has the descriptor fd. It returns nil if it cannot.
func (l *Lobby) add(fd int, c *Conn) *Lobby {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoll == nil && !l.open() {
		return nil
	}
	for fd >= len(l.waiting) {
		l.waiting = append(l.waiting, nil)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(fd)}
	if unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &event) != nil {
		return nil
	}
	l.waiting[fd] = c
	return l
}

// remove undoes add.
func (l *Lobby) remove(fd int, c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, fd, nil)
	l.waiting[fd] = nil
}

// open starts the goroutine.
func (l *Lobby) open() bool {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the runtime waits for it
		unix.Close(fd)
		return false
	}
	l.fd, l.epoll = fd, os.NewFile(uintptr(fd), "epoll")
	raw, err := l.epoll.SyscallConn()
	if err != nil {
		return false
	}
	go func() {
		events := make([]unix.EpollEvent, 64)
		for {
			var n int
			err := raw.Read(func(fd uintptr) bool {
				n, _ = unix.EpollWait(int(fd), events, 0) // EINTR does not happen without a time to wait
				return n > 0
			})
			if err != nil {
				return // it is closed
			}
			for _, event := range events[:n] {
				if c := l.at(int(event.Fd)); c != nil {
					c.rouse()
				}
			}
		}
	}()
	return true
}

// at returns the connection with the descriptor fd. It is another one than an event was for if that has been closed since.
func (l *Lobby) at(fd int) *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting[fd]
}

// Close ends the goroutine. No connection may be in the lobby.
func (l *Lobby) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoll != nil {
		l.epoll.Close()
	}
}
