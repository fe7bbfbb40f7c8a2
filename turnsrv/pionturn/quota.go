package pionturn

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// Quotas limit the allocations. In each field, zero means no limit. Further requests are refused with 486 (Allocation Quota Reached).
type Quotas struct {
	// MaxAllocations limits the allocations of the server.
	MaxAllocations int
	// MaxAllocationsPerUser limits the allocations of one credential.Subject. An anonymous subject may be several people. The limit
	// then applies to each source address (IPv6: /64) with its credential, and ten times the limit to all of them together.
	MaxAllocationsPerUser int
	// MaxAllocationsPerSource limits the allocations of one IPv4 address or IPv6 /64, which many users may share.
	MaxAllocationsPerSource int
}

const (
	// maxAnonymous is how many sources can use the full per-user quota with one anonymous credential.
	maxAnonymous = 10
	// promiseLifetime is how long an allocation is counted that pion has asked about but not made. pion makes it immediately after
	// asking, or never, and does not report the latter.
	promiseLifetime = time.Second
)

// quota counts allocations. Safe for concurrent use.
type quota struct {
	max Quotas

	mu       sync.Mutex // guards what follows
	counts   map[share]int
	live     map[tuple][]share
	clients  map[netip.AddrPort]int // how many of live each has
	promised []promise              // oldest first
}

// share identifies what a limit applies to. The zero share is the whole server.
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
		return false // no longer granted
	}
	ok = s.quota.promise(signedWith(grant.Keys, s.messageOf(client)).Subject, udp.AddrPortOf(client), time.Now())
	if !ok {
		s.log.info("quota", "allocation refused: quota reached")
	}
	return ok
}

// promise counts an allocation that is about to be made for a client, and reports whether it is within the limits.
func (q *quota) promise(subject credential.Subject, client netip.AddrPort, now time.Time) bool {
	source := limit.Host(client.Addr())
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
	for _, l := range limits {
		if l.max > 0 && q.counts[l.share] >= l.max {
			return false
		}
		shares = append(shares, l.share)
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

// ended removes an allocation.
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

// addLocked adds n to the count of each share. It deletes counts that reach zero, so that the map stays as small as its contents.
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
