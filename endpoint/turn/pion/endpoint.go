// Package pion is the TURN endpoint with engine = "pion": pion/turn v4, as turnsrv/pionturn runs it, in a process of its own.
//
// pion can panic (UnmetRows has T03), and a panic on a goroutine of pion's ends its process. The Endpoint therefore keeps the
// sockets, and starts the engine as a child that inherits them:
//
//	mailturn run ── Endpoint ──sockets, configuration──▶ mailturn turn-engine ── turn.Endpoint ── pionturn.Server ── pion/turn
//	                         ◀──log lines, ready─────────
//
// The Endpoint starts the engine again when it ends, after a wait that becomes longer. The engine ends when its standard input is
// closed, which happens in any case when the process that started it ends.
package pion

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/module"
)

const (
	// minWait is how long the Endpoint waits before it starts an engine again that has ended, and maxWait how long at most: the
	// wait doubles each time.
	minWait = 100 * time.Millisecond
	maxWait = 30 * time.Second
	// goodRun is how long an engine has to serve for the wait to begin with minWait again.
	goodRun = time.Minute
)

// errDown is what keeps the endpoint from serving.
var errDown = errors.New("the TURN engine is not running; it will be restarted")

// Endpoint is a TURN endpoint whose engine is a child process. Health and the Collector are safe for concurrent use.
type Endpoint struct {
	config  turn.Config
	command []string
	logger  *slog.Logger

	sockets  []*os.File
	watching sync.WaitGroup
	changes  chan change
	stopping chan struct{} // closed by Shutdown

	up           atomic.Bool
	restarts     atomic.Uint64
	certificates atomic.Pointer[[]certs.Pair] // config.TLS
}

// New makes an endpoint of a decoded configuration, as turn.New does. command is what starts the engine: it has to call Main.
func New(c turn.Config, command []string, logger *slog.Logger) (*Endpoint, error) {
	e := &Endpoint{config: c, command: command, logger: logger, changes: make(chan change), stopping: make(chan struct{})}
	e.certificates.Store(&c.TLS)
	return e, nil
}

// Start binds the sockets and starts the engine. It returns when the engine serves.
func (e *Endpoint) Start(ctx context.Context) error {
	configuration, err := encode(e.config)
	if err != nil {
		return err
	}
	if e.sockets, err = open(ctx, e.config); err != nil {
		return err
	}
	p, err := e.launch(configuration, ctx.Done())
	if err != nil {
		return errors.Join(err, e.closeSockets())
	}
	e.watching.Go(func() { e.watch(p, configuration) })
	return nil
}

// launch starts an engine and waits until it serves, or stopped is closed.
func (e *Endpoint) launch(configuration []byte, stopped <-chan struct{}) (*process, error) {
	p, err := launch(e.command, configuration, e.sockets, e.logger)
	if err != nil {
		return nil, err
	}
	if err := p.await(stopped); err != nil {
		p.stop()
		return nil, err
	}
	e.up.Store(true)
	return p, nil
}

// change is a configuration for a new engine. tried is closed when one was started with it, whether it serves or not.
type change struct {
	configuration []byte
	tried         chan struct{}
}

// watch starts the engine again when it ends, or when there is another configuration for it, until the endpoint is shut down. p
// is the engine that runs.
func (e *Endpoint) watch(p *process, configuration []byte) {
	wait, started := minWait, time.Now()
	for {
		present := change{configuration, make(chan struct{})}
		select {
		case <-p.done:
			e.up.Store(false)
			e.logger.Error("TURN engine ended, and its calls with it; starting it again", "err", p.reason(), "output", p.output.String())
			if time.Since(started) >= goodRun {
				wait = minWait
			}
		case present = <-e.changes:
			e.logger.Info("configuration of the TURN engine has changed; starting it again, which ends its calls")
			e.up.Store(false)
			p.stop()
			wait = 0
		case <-e.stopping:
			e.up.Store(false)
			p.stop()
			return
		}
		if p, configuration = e.again(wait, present); p == nil {
			return
		}
		wait, started = longer(wait), time.Now()
	}
}

// longer is the wait that follows another one.
func longer(wait time.Duration) time.Duration { return min(max(2*wait, minWait), maxWait) }

// again starts the engine with a configuration, the first time after wait, until it serves. It returns the configuration that the
// engine has, and no process when the endpoint is shut down.
func (e *Endpoint) again(wait time.Duration, c change) (*process, []byte) {
	tried := false
	for {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case c = <-e.changes:
			tried = false
		case <-e.stopping:
			timer.Stop()
			return nil, nil
		}
		timer.Stop()
		e.restarts.Add(1)
		p, err := e.launch(c.configuration, e.stopping)
		if !tried {
			close(c.tried)
			tried = true
		}
		if err == nil {
			e.logger.Info("TURN engine serves again")
			return p, c.configuration
		}
		select {
		case <-e.stopping:
			return nil, nil
		default:
		}
		wait = longer(wait)
		e.logger.Error("TURN engine cannot serve", "err", err, "again_in", wait)
	}
}

// Prepare implements module.Reloader. A configuration that is another one for the engine restarts it when it is put in force, which
// ends the calls; the sockets stay open, and what comes meanwhile waits there. Commit returns when the new engine serves, or when it
// is known that it does not yet: the log and Health tell.
func (e *Endpoint) Prepare(c turn.Config) (module.Change, error) {
	next, err := encode(c)
	if err != nil {
		return module.Change{}, err
	}
	same, err := sameForEngine(e.config, c)
	if err != nil {
		return module.Change{}, err
	}
	return module.Change{Commit: func() {
		e.config = c
		e.certificates.Store(&c.TLS)
		if same {
			return
		}
		wanted := change{next, make(chan struct{})}
		e.changes <- wanted
		<-wanted.tried
	}}, nil
}

// sameForEngine reports whether an engine need not be started again for b, having a. That the block has moved in the file is no
// reason to.
func sameForEngine(a, b turn.Config) (bool, error) {
	b.Range = a.Range
	textA, errA := encode(a)
	textB, errB := encode(b)
	return bytes.Equal(textA, textB), errors.Join(errA, errB)
}

// Health returns an error while the engine does not run.
func (e *Endpoint) Health() error {
	if !e.up.Load() {
		return errDown
	}
	return nil
}

// Shutdown ends the engine, and with it all calls.
func (e *Endpoint) Shutdown(context.Context) error {
	if e.sockets == nil {
		return nil
	}
	close(e.stopping)
	e.watching.Wait()
	return e.closeSockets()
}

func (e *Endpoint) closeSockets() error {
	var errs []error
	for _, socket := range e.sockets {
		errs = append(errs, socket.Close())
	}
	e.sockets = nil
	return errors.Join(errs...)
}
