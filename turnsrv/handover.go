package turnsrv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/link"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// StateVersion is the newest version of the state that Server.Suspend can write and Server.Restore reads, and OldestStateVersion the
// oldest one.
const (
	StateVersion       = handover.Version
	OldestStateVersion = handover.OldestVersion
)

// Suspended is a server that does nothing, and whose state another process can take over. What clients and peers send waits in the
// sockets, which have room for a fraction of a second. The caller must call Resume or Release.
type Suspended struct {
	server *Server
	export *session.Export
}

// Suspend stops the server, so that another process can take over the allocations of clients that use UDP, plain TCP or DTLS. That
// process must have the listening sockets already. version is one of the state that it can read; clients that use DTLS cannot be handed
// over with version 1. Suspend returns an error that wraps errors.ErrUnsupported if the server does not run on
// workers. Until Resume or Release is called, Disconnect and SetDraining wait, and Shutdown and Close must not be called.
func (s *Server) Suspend(version int) (*Suspended, error) {
	workers, links := s.started(), s.allLinks()
	if workers == nil || len(workers.group.Loops()) == 0 {
		return nil, fmt.Errorf("turnsrv: calls cannot be handed over without workers: %w", errors.ErrUnsupported)
	}
	s.changes.Lock()
	suspended := &Suspended{server: s}
	for _, l := range links {
		if accepting, ok := l.(*link.Streams); ok {
			if err := accepting.Suspend(); err != nil {
				suspended.Resume()
				return nil, fmt.Errorf("turnsrv: a listener cannot be suspended: %w", err)
			}
		}
	}
	workers.group.Suspend()
	e := s.shared.NewExport(time.Now(), version)
	for _, l := range links {
		exported, err := l.Export(e)
		if err != nil {
			suspended.Resume()
			return nil, fmt.Errorf("turnsrv: %w", err)
		}
		for _, one := range exported {
			if len(one.Allocations) > 0 || len(one.Streams) > 0 || len(one.Associations) > 0 {
				e.State.Links = append(e.State.Links, one)
			}
		}
	}
	e.Finish()
	suspended.export = e
	return suspended, nil // with the kernel path still attached: it has no channels, and detaching it would take tens of milliseconds
}

// State returns the state, and the descriptors that the other process needs, in order. They remain those of the server. The state
// contains keys of clients.
func (s *Suspended) State() (state []byte, descriptors []int, err error) {
	state, err = handover.Encode(&s.export.State, s.export.Version)
	return state, s.export.Descriptors, err
}

// Resume makes the server go on.
func (s *Suspended) Resume() {
	s.server.resume()
	s.server.changes.Unlock()
}

// Release closes the server, whose allocations another process serves from now on. Those that the other process could not take over,
// of clients that use TLS, end.
func (s *Suspended) Release() error {
	defer s.server.changes.Unlock()
	links := s.server.allLinks()
	s.server.mu.Lock()
	s.server.closed = true
	s.server.mu.Unlock()
	for _, l := range links {
		if streams, ok := l.(*link.Streams); ok { // first, because DTLS associations send their end over the sockets of other links
			streams.Release()
		}
	}
	for _, l := range links {
		if datagrams, ok := l.(link.Datagram); ok {
			datagrams.Release()
		}
	}
	return s.server.Close()
}

// Restore restores the state of a server that was suspended in another process. It requires Config.Successor. The sockets that the other
// process serves must have been passed to ServePacket, ServeDTLS and ServeStream; Restore waits until all of them are served, or until
// ctx is done. If one of them is not served, Restore returns an error if it has allocations. Otherwise its connections end, so that
// nobody without a credential can make Restore fail. It always takes ownership of the descriptors. After an error, the server must be
// closed. Then Begin makes it serve.
func (s *Server) Restore(ctx context.Context, state []byte, descriptors []int) error {
	in, err := handover.NewIncoming(state, descriptors, time.Now())
	if err != nil {
		closeAll(descriptors)
		return fmt.Errorf("turnsrv: %w", err)
	}
	defer in.Rest(closeDescriptor)
	owned, err := s.owners(ctx, in.State.Links)
	if err != nil {
		return err
	}
	if err := s.shared.Restore(in); err != nil {
		return fmt.Errorf("turnsrv: %w", err)
	}
	var restoring sync.WaitGroup
	failures := make(chan error, len(owned))
	for l, exported := range owned { // each on the goroutine of its worker
		restoring.Go(func() { failures <- l.Restore(in, exported) })
	}
	restoring.Wait()
	close(failures)
	for failure := range failures {
		err = errors.Join(err, failure)
	}
	if err != nil {
		return fmt.Errorf("turnsrv: %w", err)
	}
	return nil
}

// startLimit is how long Restore waits for the sockets of clients without allocations. Meanwhile nothing is relayed.
const startLimit = 50 * time.Millisecond

// owners returns the links that have the sockets of exported. Those without allocations come last and may have none.
func (s *Server) owners(ctx context.Context, exported []handover.Link) (map[servedLink][]*handover.Link, error) {
	owned := make(map[servedLink][]*handover.Link)
	for i := range exported {
		if one := &exported[i]; len(one.Allocations) > 0 {
			l, err := s.owner(ctx, one)
			if err != nil {
				return nil, err
			}
			owned[l] = append(owned[l], one)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for i := range exported {
		if one := &exported[i]; len(one.Allocations) == 0 {
			l, err := s.owner(ctx, one)
			if err != nil {
				s.config.Logger.Info("clients without a call have to connect again", "err", err)
				continue
			}
			owned[l] = append(owned[l], one)
		}
	}
	return owned, nil
}

// owner waits for the link that has the socket of exported.
func (s *Server) owner(ctx context.Context, exported *handover.Link) (servedLink, error) {
	for {
		s.mu.Lock()
		arrived, links := s.arrived, maps.Clone(s.links)
		s.mu.Unlock()
		for l := range links {
			if l.Owns(exported) {
				return l, nil
			}
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			where := "a UDP socket"
			if exported.Listener != (netip.AddrPort{}) {
				where = exported.Listener.String()
			}
			return nil, fmt.Errorf("turnsrv: nothing serves %s, which has %d allocations and %d connections", where,
				len(exported.Allocations), len(exported.Streams)+len(exported.Associations))
		}
	}
}

// Begin makes a server with Config.Successor serve, after Restore or without it.
func (s *Server) Begin() { s.resume() }

func (s *Server) resume() {
	s.mu.Lock()
	s.held = false
	w := s.workers
	s.mu.Unlock()
	for _, l := range s.allLinks() { // before the loops, because DTLS associations drop what they may not send yet
		if streams, ok := l.(*link.Streams); ok {
			streams.Resume()
		}
	}
	if w != nil {
		w.group.Resume()
	}
}

func (s *Server) allLinks() []servedLink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.links))
}

func closeAll(descriptors []int) {
	for _, fd := range descriptors {
		closeDescriptor(fd)
	}
}

func closeDescriptor(fd int) { _ = os.NewFile(uintptr(fd), "").Close() }
