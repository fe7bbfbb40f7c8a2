//go:build amd64 || arm64

package kernel

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// routeAge is how long an answer of the system is used again. Changes are announced, except that of the MTU of a path.
	routeAge = 10 * time.Second
	// maxRoutes is the number of answers that are kept.
	maxRoutes = 4096
)

// routes keeps answers of RouteTo, which takes several system calls. Safe for concurrent use. The zero value is ready for use.
type routes struct {
	mu      sync.Mutex
	known   map[ends]knownRoute
	changes uint64 // calls of forget
}

type ends struct{ destination, source netip.Addr }

type knownRoute struct {
	route Route
	from  netip.Addr
	err   error
	at    time.Time
}

// to is RouteTo.
func (r *routes) to(destination, source netip.Addr, now time.Time) (Route, netip.Addr, error) {
	key := ends{destination, source}
	r.mu.Lock()
	k, ok := r.known[key]
	before := r.changes
	r.mu.Unlock()
	if age := now.Sub(k.at); ok && 0 <= age && age < routeAge {
		return k.route, k.from, k.err
	}
	k.route, k.from, k.err = RouteTo(destination, source)
	k.at = now
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changes == before { // otherwise, the answer may be from before the change
		if r.known == nil || len(r.known) >= maxRoutes {
			r.known = make(map[ends]knownRoute)
		}
		r.known[key] = k
	}
	return k.route, k.from, k.err
}

// forget forgets all answers, after a change.
func (r *routes) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.known)
	r.changes++
}

// generation returns a number that changes with forget.
func (r *routes) generation() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changes
}
