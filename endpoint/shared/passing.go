package shared

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/limit"
)

// passing are the connections to the fallback. Safe for concurrent use.
type passing struct {
	mu    sync.Mutex // guards what follows
	conns map[*passed]struct{}
	from  map[netip.Prefix]int // by limit.Host and limit.Network; only positive counts
	ended bool                 // there are no more
}

// The parts of max_connections that one address (IPv6: /64) and one network (IPv4: /24, IPv6: /48) may have, as divisors.
const (
	hostShare    = 4
	networkShare = 2
)

// enter adds a connection, or returns nil if there are too many. end ends the connection to the fallback.
func (p *passing) enter(conn *Conn, end context.CancelFunc, maximum int) *passed {
	addr := conn.origin.Client.Addr()
	host, network := limit.Host(addr), limit.Network(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || len(p.conns) >= maximum || p.from[host] >= max(maximum/hostShare, 1) || p.from[network] >= max(maximum/networkShare, 1) {
		return nil
	}
	if p.conns == nil {
		p.conns, p.from = make(map[*passed]struct{}), make(map[netip.Prefix]int)
	}
	entry := &passed{conn: conn, end: end, from: [...]netip.Prefix{host, network}}
	entry.active.Store(time.Now().UnixNano())
	p.conns[entry] = struct{}{}
	for _, prefix := range entry.from {
		p.from[prefix]++
	}
	return entry
}

// leave undoes enter.
func (p *passing) leave(entry *passed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, entry)
	for _, prefix := range entry.from {
		if p.from[prefix]--; p.from[prefix] == 0 {
			delete(p.from, prefix)
		}
	}
}

// count returns how many there are.
func (p *passing) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

const (
	// quietAfter is how long no bytes have passed on a connection that finish ends at once: no request is in progress.
	quietAfter = time.Second
	// finishInterval is how often finish looks.
	finishInterval = 100 * time.Millisecond
)

// finish ends each connection when it is quiet, and those that are left when ctx is done. No further ones are added.
func (p *passing) finish(ctx context.Context) {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	ticker := time.NewTicker(finishInterval)
	defer ticker.Stop()
	for p.closeSince(time.Now().Add(-quietAfter)) > 0 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			p.closeSince(time.Now())
			return
		}
	}
}

// closeSince closes the connections that have been quiet since t, and returns how many there are.
func (p *passing) closeSince(t time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for entry := range p.conns {
		if entry.active.Load() <= t.UnixNano() {
			entry.end()
			entry.conn.Close()
		}
	}
	return len(p.conns)
}
