package dict

import (
	"context"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/endpoint/dict/dictproto"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/framework/module"
	"github.com/mailturn/mailturn/framework/socket"
)

// An Endpoint serves a dictionary. Its exported methods must not be called concurrently.
type Endpoint struct {
	logger   *slog.Logger
	present  atomic.Pointer[Config] // written by the goroutine of the exported methods only
	listener *socket.Listener
	serving  sync.WaitGroup // the accept loops and the connections

	mu       sync.Mutex
	draining bool
	sessions map[*session]struct{}

	lines log.Limit // of what each connection could have a line about
}

// New returns an endpoint, whose configuration must have a secret. It creates no socket.
func New(config Config, logger *slog.Logger) (*Endpoint, error) {
	if err := config.TURN.CheckSecret(); err != nil {
		return nil, err
	}
	e := &Endpoint{logger: logger, sessions: make(map[*session]struct{})}
	e.present.Store(&config)
	return e, nil
}

// Start creates the socket and serves on it until Shutdown. The next server need not run yet.
func (e *Endpoint) Start(ctx context.Context) error {
	listener, err := socket.Listen(ctx, e.present.Load().Socket)
	if err != nil {
		return err
	}
	e.serve(listener)
	return nil
}

func (e *Endpoint) serve(listener *socket.Listener) {
	e.listener = listener
	e.logger.Info("listening", "listen", listener.Addr().String(), "backend", e.present.Load().Next)
	e.serving.Go(func() { listen.Serve(listener, e.logger, e.admit) })
}

// admit serves a connection, unless there are too many.
func (e *Endpoint) admit(conn net.Conn) {
	s := &session{endpoint: e, client: conn, reader: newLineReader(conn, dictproto.MaxLine)}
	if !e.enter(s) {
		e.lines.Log(e.logger, slog.LevelWarn, "connection refused: there are too many")
		conn.Close()
		return
	}
	e.serving.Go(func() {
		defer e.leave(s)
		defer conn.Close()
		defer func() {
			if p := recover(); p != nil {
				e.logger.Error("panic in a dict session", "err", p, "stack", string(debug.Stack()))
			}
		}()
		s.run()
	})
}

func (e *Endpoint) enter(s *session) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sessions) >= e.present.Load().MaxConnections {
		return false
	}
	e.sessions[s] = struct{}{}
	return true
}

func (e *Endpoint) leave(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, s)
}

// entries returns our annotations, with a credential issued to user now.
func (e *Endpoint) entries(user string) []dictproto.Entry {
	relay := e.present.Load().TURN.For(user)
	turn, turns := relay.Values(relay.IssueTo(user, time.Now()))
	return []dictproto.Entry{{Name: turnEntry, Value: turn}, {Name: turnsEntry, Value: turns}}
}

// The entries from which Delta Chat learns about a TURN server, below "/shared/".
const (
	turnEntry  = "vendor/deltachat/turn"
	turnsEntry = "vendor/deltachat/turns"
)

// Prepare implements module.Reloader. It creates a new socket, which is answered after Commit. Credentials then change for all
// connections; existing ones keep their next server.
func (e *Endpoint) Prepare(config Config) (module.Change, error) {
	if err := config.TURN.CheckSecret(); err != nil {
		return module.Change{}, err
	}
	listener, undo, err := e.listener.Prepare(context.Background(), config.Socket)
	if err != nil {
		return module.Change{}, err
	}
	return module.Change{Discard: undo, Commit: func() {
		e.present.Store(&config)
		if listener != e.listener {
			e.listener.Close()
			e.serve(listener)
		}
	}}, nil
}

// Shutdown removes the socket and waits until requests in progress are answered or ctx is done; then it closes the connections.
// Dovecot asks elsewhere, or reports an error to its client.
func (e *Endpoint) Shutdown(ctx context.Context) error {
	err := e.listener.Close()
	e.mu.Lock()
	e.draining = true
	for s := range e.sessions {
		s.client.SetReadDeadline(time.Now())
	}
	e.mu.Unlock()
	done := make(chan struct{})
	go func() {
		e.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
	}
	e.mu.Lock()
	n := len(e.sessions)
	for s := range e.sessions {
		s.cut()
	}
	e.mu.Unlock()
	<-done
	if n > 0 {
		e.logger.Info("connections cut off by the shutdown", "connections", n)
	}
	return err
}
