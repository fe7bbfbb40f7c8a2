package shared

import (
	"net"
	"net/netip"
	"sync"

	"github.com/mailturn/mailturn/turnsrv/limit"
)

const (
	// maxPending is how many connections may be about to be told apart, as many as the relay has without an allocation. A further
	// one displaces the oldest one of the network that has the most.
	maxPending = 4096
	// maxPendingHost is how many of them one address (IPv6: /64) may have. Proxies are not limited until they name their client.
	maxPendingHost = 256
	// maxLarge is how many of them may have more than largeHello bytes. All together have 28 MiB at most. A further one displaces the
	// oldest one of the network that has the most of these.
	maxLarge = 1024
)

// pending are the connections that no endpoint has yet. Safe for concurrent use.
type pending struct {
	mu    sync.Mutex // guards what follows
	conns map[net.Conn]netip.Addr
	hosts map[netip.Prefix]int // only positive counts
	crowd limit.Crowd[net.Conn]
	large limit.Crowd[net.Conn] // those with more than largeHello bytes
	ended bool                  // there are no more
}

// enter adds a connection, or returns false if there are too many from its address, or after closeAll. A displaced one is closed.
func (p *pending) enter(conn net.Conn, addr netip.Addr, unlimited bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || !unlimited && p.hosts[limit.Host(addr)] >= maxPendingHost {
		return false
	}
	if len(p.conns) >= maxPending {
		if oldest, ok := p.crowd.First(); ok {
			p.leaveLocked(oldest)
			oldest.Close()
		}
	}
	p.addLocked(conn, addr)
	return true
}

func (p *pending) addLocked(conn net.Conn, addr netip.Addr) {
	if p.conns == nil {
		p.conns, p.hosts = make(map[net.Conn]netip.Addr), make(map[netip.Prefix]int)
	}
	p.conns[conn] = addr
	p.hosts[limit.Host(addr)]++
	p.crowd.Add(conn, addr)
}

// move counts a connection under the address of its client, which a proxy has named. It returns false, and removes the connection, if
// there are too many from there.
func (p *pending) move(conn net.Conn, addr netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leaveLocked(conn) || p.hosts[limit.Host(addr)] >= maxPendingHost {
		return false
	}
	p.addLocked(conn, addr)
	return true
}

// enlarge lets a connection have more than largeHello bytes. One that is displaced is closed, which may be this one.
func (p *pending) enlarge(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	addr, ok := p.conns[conn]
	if !ok {
		return
	}
	p.large.Add(conn, addr)
	if p.large.Len() > maxLarge {
		oldest, _ := p.large.First()
		p.leaveLocked(oldest)
		oldest.Close()
	}
}

// leave removes a connection, and reports whether it was there. If it was not, another one may have displaced it.
func (p *pending) leave(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leaveLocked(conn)
}

func (p *pending) leaveLocked(conn net.Conn) bool {
	addr, ok := p.conns[conn]
	if !ok {
		return false
	}
	delete(p.conns, conn)
	p.crowd.Remove(conn)
	p.large.Remove(conn)
	host := limit.Host(addr)
	if p.hosts[host]--; p.hosts[host] == 0 {
		delete(p.hosts, host)
	}
	return true
}

// count returns how many there are.
func (p *pending) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// closeAll closes all connections.
func (p *pending) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	for conn := range p.conns {
		conn.Close()
	}
}
