package link

import (
	"net/netip"
	"sync"

	"github.com/mailturn/mailturn/turnsrv/limit"
)

// MaxUnallocated is the maximum number of connections of a listener without an allocation. These are unauthenticated. A genuine
// client requires its place for a few round trips, a third of a second across an ocean. It therefore succeeds during a flood of
// 10,000 new connections per second, even if they all come from its own network. A connection takes about 8 KB, over TLS about
// 30 KB.
const MaxUnallocated = 4096

// places limits the connections of a listener, which the links that serve it share. Safe for concurrent use.
type places struct {
	max int

	mu          sync.Mutex // guards what follows
	streams     map[*stream]struct{}
	unallocated limit.Crowd[*stream] // the streams without an allocation
}

func newPlaces(maxStreams int) *places {
	return &places{max: maxStreams, streams: make(map[*stream]struct{})}
}

// take gives s, which has no allocation yet, a place and reports whether there was one. If all places are taken, it returns a
// connection without an allocation that the caller must end: the oldest one of the source network that has the most. A network that
// floods the server therefore displaces its own connections.
func (p *places) take(s *stream, client netip.Addr) (displaced *stream, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.streams) >= p.max || p.unallocated.Len() >= MaxUnallocated {
		if displaced, ok = p.unallocated.First(); !ok {
			return nil, false
		}
		p.leaveLocked(displaced)
	}
	p.streams[s] = struct{}{}
	p.unallocated.Add(s, client)
	return displaced, true
}

// adopt gives s a place, whatever the limits are. It counts as a connection with an allocation until allocated is called.
func (p *places) adopt(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams[s] = struct{}{}
}

// leave gives up the place of s.
func (p *places) leave(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaveLocked(s)
}

func (p *places) leaveLocked(s *stream) {
	delete(p.streams, s)
	p.unallocated.Remove(s)
}

// moved counts s, if it has no allocation, under the actual address of its client.
func (p *places) moved(s *stream, client netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unallocated.Remove(s) {
		p.unallocated.Add(s, client)
	}
}

// allocated records whether s, if it has a place, has an allocation.
func (p *places) allocated(s *stream, has bool, client netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unallocated.Remove(s)
	if _, live := p.streams[s]; live && !has {
		p.unallocated.Add(s, client)
	}
}

// of returns the streams of a link.
func (p *places) of(l *Streams) (all []*stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.streams {
		if s.link == l {
			all = append(all, s)
		}
	}
	return all
}
