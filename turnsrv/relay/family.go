package relay

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// family is the state of one address of the relay.
type family struct {
	allocator *Allocator
	Address
	id      stun.Family
	network string

	minPort uint16
	opened  []atomic.Pointer[Conn] // by port, from minPort: relayed addresses that have been started
	sockets atomic.Int64           // bound to the address

	ports *ports
}

// ports are the ports of a family that are in use, on its present address and on former ones.
type ports struct {
	mu   sync.Mutex
	used map[uint16]bool // ports of this allocator: true once they are bound
}

// bind opens a socket at a port.
func (f *family) bind(port uint16, l *loop.Loop) (socket, error) {
	open := listenOnLoop
	if l == nil {
		open = goroutineSockets(f.allocator.listen)
	}
	socket, err := open(f.network, netip.AddrPortFrom(f.Bind, port))
	if err == nil && CanDontFragment && f.Bind.Is4() {
		// Linux sets the DF bit by default. RFC 8656 section 15 requires it to be clear unless the client requests it.
		if err = socket.dontFragment(false); err != nil {
			_ = socket.close()
		}
	}
	if err == nil {
		f.bound(port)
	}
	return socket, err
}

// bound records that a port that was taken is bound.
func (f *family) bound(port uint16) {
	f.sockets.Add(1)
	f.ports.mu.Lock()
	defer f.ports.mu.Unlock()
	f.ports.used[port] = true
	f.allocator.onUse(f.id, port, true)
}

// take claims a port within this allocator and reports whether it was free.
func (f *family) take(port uint16) bool {
	f.ports.mu.Lock()
	defer f.ports.mu.Unlock()
	if _, taken := f.ports.used[port]; taken {
		return false
	}
	f.ports.used[port] = false
	return true
}

func (f *family) release(port uint16) {
	f.ports.mu.Lock()
	defer f.ports.mu.Unlock()
	if f.ports.used[port] {
		f.sockets.Add(-1)
		f.allocator.onUse(f.id, port, false)
	}
	delete(f.ports.used, port)
}

// open makes c the relayed address at port, or nil.
func (f *family) open(port uint16, c *Conn) { f.opened[port-f.minPort].Store(c) }

// conn returns the relayed address at port, or nil if there is none.
func (f *family) conn(port uint16) *Conn {
	if at := int(port) - int(f.minPort); at >= 0 && at < len(f.opened) {
		return f.opened[at].Load()
	}
	return nil
}
