//go:build amd64 || arm64

package kernel

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// changes reports when the routes of packets may have changed. Owned by one goroutine, except for close.
type changes struct {
	socket *os.File
	raw    syscall.RawConn
	buf    [64 << 10]byte
}

// watchChanges begins to watch routes, rules, addresses and interfaces.
func watchChanges() (*changes, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c := &changes{socket: os.NewFile(uintptr(fd), "netlink")}
	groups := uint32(0)
	for _, group := range []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
	} {
		groups |= 1 << (group - 1)
	}
	err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}))
	if err == nil {
		c.raw, err = c.socket.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch the routes of this machine: %w", err), c.close())
	}
	return c, nil
}

// next waits for a change since the previous call. It returns an error after close.
func (c *changes) next() error {
	var failed error
	err := c.raw.Read(func(fd uintptr) (done bool) {
		for {
			_, _, err := unix.Recvfrom(int(fd), c.buf[:], 0)
			switch err {
			case nil, unix.ENOBUFS: // the latter if there were too many
				done = true
			case unix.EINTR:
			case unix.EAGAIN:
				return done
			default:
				failed = os.NewSyscallError("recvfrom", err)
				return true
			}
		}
	})
	return errors.Join(err, failed)
}

// close makes next return an error. It may be called again.
func (c *changes) close() error {
	if err := c.socket.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

const (
	beatPeriod = time.Second
	// recheckPeriod is the minimum interval between two runs of recheck. On a router, routes change all the time.
	recheckPeriod = time.Second
)

// Follow reports to the program that the process is alive, and disables channels whose packets must take another route, until stop
// is closed. It is called once.
func (p *Path) Follow(stop <-chan struct{}) {
	changed := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p.changes.next() == nil {
			select {
			case changed <- struct{}{}:
			default: // it will be looked at
			}
		}
	}()
	beat := time.NewTicker(beatPeriod)
	defer beat.Stop()
	var ready <-chan time.Time // nil while a recheck may run at once
	next := changed
	for {
		select {
		case <-beat.C:
			p.Beat()
		case <-next:
			p.recheck()
			next, ready = nil, time.After(recheckPeriod)
		case <-ready:
			next, ready = changed, nil
		case <-stop:
			_ = p.changes.close()
			<-done
			return
		}
	}
}

// recheck disables the channels whose packets must take another route than when they were added, or whose address is no longer one
// of this machine, and forgets interfaces that have disappeared.
func (p *Path) recheck() {
	p.routes.forget() // first: see Relay
	p.mu.Lock()
	channels := make([]*Channel, 0, len(p.channels))
	for c := range p.channels {
		channels = append(channels, c)
	}
	interfaces := make([]int, 0, len(p.hooks))
	for index := range p.hooks {
		interfaces = append(interfaces, index)
	}
	p.mu.Unlock()
	p.recheckChannels(channels)
	for _, index := range interfaces {
		if _, err := linkOf(index); errors.Is(err, unix.ENODEV) {
			_ = p.Detach(index) // there is nothing left that could fail
		}
	}
}

// recheckChannels disables those of the channels whose packets must take another route.
func (p *Path) recheckChannels(channels []*Channel) {
	valid := make(map[way]bool)
	for _, c := range channels {
		p.Beat() // a recheck of a full table may take longer than the program waits
		for _, w := range c.ways {
			same, known := valid[w]
			if !known {
				same = w.valid()
				valid[w] = same
			}
			if !same {
				p.disable(c)
			}
		}
	}
}

// valid reports whether packets still take this route.
func (w way) valid() bool {
	route, _, err := RouteTo(w.to, w.from)
	return err == nil && route == w.route && isLocal(w.from)
}
