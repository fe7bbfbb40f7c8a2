package handoff

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// Sockets are the listening sockets of a process by name: those that it can pass on, and those that it has been passed and has not
// used yet. Several sockets may have one name. A nil *Sockets has none, and keeps none. Safe for concurrent use.
type Sockets struct {
	shared atomic.Bool

	mu        sync.Mutex // guards what follows
	offered   []offer
	inherited map[string][]*os.File
}

type offer struct {
	name string
	conn syscall.Conn // nil for a descriptor
	fd   int
}

// NewSockets returns sockets of which those in files were passed by the process before, with their names in the same order.
func NewSockets(names []string, files []*os.File) *Sockets {
	s := &Sockets{inherited: make(map[string][]*os.File)}
	s.shared.Store(len(files) > 0)
	for i, file := range files {
		s.inherited[names[i]] = append(s.inherited[names[i]], file)
	}
	return s
}

// Take returns a socket that was passed under name, or nil. The caller closes it.
func (s *Sockets) Take(name string) *os.File {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.inherited[name]
	if len(all) == 0 {
		return nil
	}
	s.inherited[name] = all[1:]
	return all[0]
}

// Offer makes Export return conn until it is closed.
func (s *Sockets) Offer(name string, conn syscall.Conn) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offered = append(s.offered, offer{name: name, conn: conn})
}

// Keep is Offer for a socket that moves to another descriptor: it keeps a duplicate, which holds the socket open until Withdraw.
func (s *Sockets) Keep(name string, conn syscall.Conn) error {
	if s == nil {
		return nil
	}
	fd, err := duplicate(conn)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offered = append(s.offered, offer{name: name, fd: fd})
	return nil
}

// Withdraw closes what Keep has kept under name.
func (s *Sockets) Withdraw(name string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offered = slices.DeleteFunc(s.offered, func(o offer) bool {
		withdrawn := o.name == name && o.conn == nil
		if withdrawn {
			_ = syscall.Close(o.fd)
		}
		return withdrawn
	})
}

// Export calls send with the names and descriptors of all sockets that are offered and open. The descriptors are valid during the call.
func (s *Sockets) Export(send func(names []string, descriptors []int) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	var descriptors, duplicates []int
	defer func() {
		for _, fd := range duplicates {
			_ = syscall.Close(fd)
		}
	}()
	open := s.offered[:0:0]
	for _, o := range s.offered {
		fd := o.fd
		if o.conn != nil {
			var err error
			if fd, err = duplicate(o.conn); errors.Is(err, net.ErrClosed) {
				continue
			} else if err != nil {
				return err
			}
			duplicates = append(duplicates, fd)
		}
		open, names, descriptors = append(open, o), append(names, o.name), append(descriptors, fd)
	}
	s.offered = open
	return send(names, descriptors)
}

// duplicate returns another descriptor of conn. It leaves alone whether reads from conn block, which File of package net does not.
func duplicate(conn syscall.Conn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	if err := raw.Control(func(old uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, failed = syscall.Dup(int(old)); failed == nil {
			syscall.CloseOnExec(fd)
		}
	}); err != nil {
		return -1, err
	}
	return fd, os.NewSyscallError("dup", failed)
}

// Unused returns the names of the sockets that were passed and not taken, and closes them.
func (s *Sockets) Unused() (names []string) {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, files := range s.inherited {
		for _, file := range files {
			names = append(names, name)
			_ = file.Close()
		}
	}
	s.inherited = nil
	return names
}

// SetShared records whether another process has the sockets, too, and serves. They are only closed here then: for example, the file
// of a Unix socket remains. Sockets that were passed are shared at first.
func (s *Sockets) SetShared(shared bool) { s.shared.Store(shared) }

// Shared reports whether another process has the sockets: see SetShared.
func (s *Sockets) Shared() bool { return s != nil && s.shared.Load() }
