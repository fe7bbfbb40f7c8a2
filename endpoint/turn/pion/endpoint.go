// Package pion is the TURN endpoint with engine = "pion": pion/turn v4, run by turnsrv/pionturn, in a separate process.
//
// pion can panic (UnmetRows has T03), and a panic on one of its goroutines ends the process. The Endpoint therefore keeps the
// sockets, and starts the engine as a child process that inherits them:
//
//	mailturn run ── Endpoint ──sockets, configuration──▶ mailturn turn-engine ── turn.Endpoint ── pionturn.Server ── pion/turn
//	                         ◀──log lines, ready─────────
//
// When the engine ends, the Endpoint restarts it, after a wait that increases each time. The engine ends when its standard input is
// closed, which also happens whenever the process that started it ends.
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
	// minWait is how long the Endpoint first waits before it restarts an engine that has ended. The wait doubles each time, up to
	// maxWait.
	minWait = 100 * time.Millisecond
	maxWait = 30 * time.Second
	// goodRun is how long an engine must serve before the next wait is minWait again.
	goodRun = time.Minute
)

// errDown is the error of Health while there is no engine.
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

// New returns an endpoint with a decoded configuration, as turn.New does. command starts the engine and must call Main.
func New(c turn.Config, command []string, logger *slog.Logger) (*Endpoint, error) {
	e := &Endpoint{config: c, command: command, logger: logger, changes: make(chan change), stopping: make(chan struct{})}
	e.certificates.Store(&c.TLS)
	return e, nil
}

// Start binds the sockets and starts the engine. It returns once the engine serves.
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

// launch starts an engine and waits until it serves, or until stopped is closed.
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

// change is a configuration for a new engine. tried is closed after one has been started with it, whether it serves or not.
type change struct {
	configuration []byte
	tried         chan struct{}
}

// watch restarts the engine when it ends or gets another configuration, until the endpoint is shut down. p is the running engine.
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

// longer returns the wait that follows wait.
func longer(wait time.Duration) time.Duration { return min(max(2*wait, minWait), maxWait) }

// again tries to start the engine with a configuration, first after wait, until it serves. It returns the engine's configuration,
// and no process if the endpoint is shut down.
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

// Prepare implements module.Reloader. If the configuration differs for the engine, Commit restarts it, which ends the calls; the
// sockets stay open, and packets that arrive meanwhile wait there. Commit returns when the new engine serves, or its first start
// has failed, which the log and Health report.
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

// sameForEngine reports whether an engine with the configuration a need not be restarted for b. The position of the block in the
// file does not matter.
func sameForEngine(a, b turn.Config) (bool, error) {
	b.Range = a.Range
	textA, errA := encode(a)
	textB, errB := encode(b)
	return bytes.Equal(textA, textB), errors.Join(errA, errB)
}

// Health returns an error while the engine is not running.
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
