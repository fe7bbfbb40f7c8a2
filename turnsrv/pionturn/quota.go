package pionturn

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// Quotas bound the allocations. Zero is no limit, in each field. A request beyond one draws 486 (Allocation Quota Reached).
type Quotas struct {
	// MaxAllocations bounds the allocations of the server.
	MaxAllocations int
	// MaxAllocationsPerUser bounds those of one credential.Subject. An anonymous subject may be several people: the bound is
	// then that of each source address (IPv6: /64) with its credential, and all of them together have ten times as many.
	MaxAllocationsPerUser int
	// MaxAllocationsPerSource bounds those of one IPv4 address or IPv6 /64, behind which there may be many users.
	MaxAllocationsPerSource int
}

const (
	// maxAnonymous is how many sources may use up the quota of a user with one credential that is nobody's in particular.
	maxAnonymous = 10
	// promiseLifetime is how long an allocation is counted that pion asked about and did not make. It makes one right after
	// it has asked, or never, and does not say so.
	promiseLifetime = time.Second
)

// quota counts allocations. Safe for concurrent use.
type quota struct {
	max Quotas

	mu       sync.Mutex // guards what follows
	counts   map[share]int
	live     map[tuple][]share
	clients  map[netip.AddrPort]int // how many of live each has
	promised []promise              // in the order of time
}

// share is what a limit bounds. The zero share is the whole server.
type share struct {
	subject credential.Subject
	source  netip.Prefix
}

// promise is an allocation that pion has asked about.
type promise struct {
	client netip.AddrPort
	shares []share
	until  time.Time
}

func newQuota(max Quotas) *quota {
	return &quota{max: max, counts: make(map[share]int), live: make(map[tuple][]share), clients: make(map[netip.AddrPort]int)}
}

// withinQuota is a turn.QuotaHandler.
func (s *Server) withinQuota(username, realm string, client net.Addr) bool {
	grant, ok := s.config.Authenticator.Lookup(username, realm)
	if !ok || len(grant.Keys) == 0 {
		return false // not granted any more
	}
	ok = s.quota.promise(signedWith(grant.Keys, s.messageOf(client)).Subject, udp.AddrPortOf(client), time.Now())
	if !ok {
		s.log.seldom("allocation refused: quota reached")
	}
	return ok
}

// promise counts an allocation of a client that is about to be made, and reports whether there is room for it.
func (q *quota) promise(subject credential.Subject, client netip.AddrPort, now time.Time) bool {
	source := sourceHost(client.Addr())
	limits := []struct {
		share share
		max   int
	}{
		{share{}, q.max.MaxAllocations},
		{share{source: source}, q.max.MaxAllocationsPerSource},
		{share{subject: subject}, q.max.MaxAllocationsPerUser},
	}
	if subject.Anonymous {
		limits[2].max *= maxAnonymous
		limits = append(limits, struct {
			share share
			max   int
		}{share{subject, source}, q.max.MaxAllocationsPerUser})
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.promised) > 0 && now.After(q.promised[0].until) {
		q.addLocked(q.promised[0].shares, -1)
		q.promised = q.promised[1:]
	}
	var shares []share
	for _, limit := range limits {
		if limit.max > 0 && q.counts[limit.share] >= limit.max {
			return false
		}
		shares = append(shares, limit.share)
	}
	q.addLocked(shares, 1)
	q.promised = append(q.promised, promise{client, shares, now.Add(promiseLifetime)})
	return true
}

// made turns the promise for a client into an allocation.
func (q *quota) made(t tuple) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.clients[t.client]++
	for i, p := range q.promised {
		if p.client == t.client {
			q.promised = append(q.promised[:i], q.promised[i+1:]...)
			q.live[t] = p.shares
			return
		}
	}
	q.live[t] = nil
}

// ended takes an allocation out.
func (q *quota) ended(t tuple) {
	q.mu.Lock()
	defer q.mu.Unlock()
	shares, ok := q.live[t]
	if !ok {
		return
	}
	delete(q.live, t)
	q.addLocked(shares, -1)
	if q.clients[t.client]--; q.clients[t.client] == 0 {
		delete(q.clients, t.client)
	}
}

// addLocked counts n more of each share. It keeps no zeros, so that the map is as large as what it counts.
func (q *quota) addLocked(shares []share, n int) {
	for _, share := range shares {
		if q.counts[share] += n; q.counts[share] == 0 {
			delete(q.counts, share)
		}
	}
}

// has reports whether a client has an allocation.
func (q *quota) has(client netip.AddrPort) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.clients[client] > 0
}

func (q *quota) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.live)
}

// sourceHost returns the addresses that one host or household has.
func sourceHost(addr netip.Addr) netip.Prefix {
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	prefix, _ := addr.Prefix(bits)
	return prefix
}
