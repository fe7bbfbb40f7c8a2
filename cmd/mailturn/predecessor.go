package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/mailturn/mailturn/framework/handoff"
)

// predecessor is the process that this one follows.
type predecessor struct {
	conn handoff.Conn
	// sockets are its listening sockets.
	sockets  *handoff.Sockets
	draining bool // it refuses new calls
}

// findPredecessor receives the sockets of the process that this one is to follow, or returns nil if there is none.
func findPredecessor() (*predecessor, error) {
	fd, err := strconv.Atoi(os.Getenv(predecessorVar))
	os.Unsetenv(predecessorVar)
	if err != nil {
		return nil, nil
	}
	conn, err := handoff.FromDescriptor(fd)
	if err != nil {
		return nil, err
	}
	m, err := conn.Receive(time.Now().Add(startLimit))
	if err != nil {
		return nil, err
	}
	if m.Kind != messageSockets || len(m.Names) != len(m.Descriptors) {
		handoff.CloseAll(m.Descriptors)
		return nil, fmt.Errorf("the process before says %q", m.Kind)
	}
	files := make([]*os.File, len(m.Names))
	for i, name := range m.Names {
		files[i] = os.NewFile(uintptr(m.Descriptors[i]), name)
	}
	return &predecessor{conn: conn, sockets: handoff.NewSockets(m.Names, files)}, nil
}

// failed tells the process before that this one cannot follow it.
func (p *predecessor) failed(err error) {
	_ = p.conn.Send(handoff.Message{Kind: messageFailed, Name: err.Error()[:min(len(err.Error()), maxReport)]}, time.Now().Add(time.Second))
	_ = p.conn.Close()
}

// takeOver takes over the calls for a service that has started, and returns when it serves.
func (p *predecessor) takeOver(ctx context.Context, r *service) error {
	defer context.AfterFunc(ctx, func() { _ = p.conn.Close() })()
	if err := r.followed(); err != nil {
		return err
	}
	if err := p.conn.Send(handoff.Message{Kind: messageReady}, time.Now().Add(startLimit)); err != nil {
		return err
	}
	for {
		m, err := p.conn.Receive(time.Now().Add(startLimit))
		if err != nil {
			return fmt.Errorf("the process before: %w", err)
		}
		switch m.Kind {
		case messageRelay:
			err = p.restore(ctx, r, m)
		case messageService:
			err = p.learn(r, m.Body)
		case messageUsage:
			var since sinceService
			if err = json.Unmarshal(m.Body, &since); err == nil {
				r.book.Continue(since.Delta)
				r.accounts.Learn(since.Issued, true, time.Now())
			}
			r.member.keeper.Load()
		case messageEnd:
			return p.begin(r)
		default:
			handoff.CloseAll(m.Descriptors)
			err = fmt.Errorf("the process before says %q", m.Kind)
		}
		if err != nil {
			return err
		}
	}
}

// learn reads the state of the service.
func (p *predecessor) learn(r *service, body []byte) error {
	state := serviceState{Accounts: &r.accounts}
	if err := json.Unmarshal(body, &state); err != nil {
		return err
	}
	r.book.Restore(state.Usage)
	if p.draining = state.Draining; state.BansChanged {
		r.bans.load(r.setup.stateDir, r.logger)
	}
	if !state.Answer {
		return nil
	}
	return p.conn.Send(handoff.Message{Kind: messageInformed}, time.Now().Add(handOverLimit))
}

func (p *predecessor) restore(ctx context.Context, r *service, m handoff.Message) error {
	ctx, cancel := context.WithTimeout(ctx, handOverLimit)
	defer cancel()
	for _, relay := range r.movableRelays() {
		if relay.name == m.Name {
			return relay.endpoint.Restore(ctx, m.Body, m.Descriptors)
		}
	}
	handoff.CloseAll(m.Descriptors)
	return fmt.Errorf("%s was removed from the configuration, which requires a restart", m.Name)
}

// begin makes the relays serve as soon as the process before does not any more.
func (p *predecessor) begin(r *service) error {
	if err := p.conn.Send(handoff.Message{Kind: messageDone}, time.Now().Add(handOverLimit)); err != nil {
		return err
	}
	m, err := p.conn.Receive(time.Now().Add(2 * handOverLimit))
	if err == nil && m.Kind != messageGo {
		err = fmt.Errorf("the process before says %q", m.Kind)
	}
	if err != nil {
		return err
	}
	p.sockets.SetShared(false)
	for _, relay := range r.movableRelays() {
		relay.endpoint.Begin()
	}
	if p.draining {
		r.setDraining(true)
	}
	return p.conn.Close()
}
