package credsock

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/module"
	"github.com/mailturn/mailturn/framework/socket"
)

// writeTimeout is never reached: the few bytes fit in the buffer of a new socket.
const writeTimeout = time.Second

// An Endpoint serves credentials. Its methods must not be called concurrently.
//
// One goroutine answers the connections one after another: each answer is a write to a new socket, which does not wait for the
// reader. So readers, even if they vanish or read nothing, occupy no more than a place in the backlog of the system.
type Endpoint struct {
	logger   *slog.Logger
	socket   socket.Config // for Start
	issuer   atomic.Pointer[issuer.Config]
	listener *socket.Listener
	serving  sync.WaitGroup
}

// New returns an endpoint, whose configuration must have a secret. It creates no socket.
func New(config Config, logger *slog.Logger) (*Endpoint, error) {
	if err := config.Issuer.CheckSecret(); err != nil {
		return nil, err
	}
	e := &Endpoint{logger: logger, socket: config.Socket}
	e.issuer.Store(&config.Issuer)
	return e, nil
}

// Start creates the socket and serves on it until Shutdown.
func (e *Endpoint) Start(ctx context.Context) error {
	listener, err := socket.Listen(ctx, e.socket)
	if err != nil {
		return err
	}
	e.serve(listener)
	return nil
}

func (e *Endpoint) serve(listener *socket.Listener) {
	e.listener = listener
	e.logger.Info("listening", "listen", listener.Addr().String())
	e.serving.Go(func() { listen.Serve(listener, e.logger, e.answer) })
}

// answer issues a credential to the client of conn.
func (e *Endpoint) answer(conn net.Conn) {
	defer conn.Close()
	issued := e.issuer.Load().Issue(time.Now())
	conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := io.WriteString(conn, issued.Username+":"+issued.Password+"\n"); err != nil {
		e.logger.Debug("reader gone", "err", err)
		return
	}
	e.logger.Debug("credential issued", "username", issued.Username)
}

// Prepare implements module.Reloader. It creates a new socket, which is answered after Commit.
func (e *Endpoint) Prepare(config Config) (module.Change, error) {
	if err := config.Issuer.CheckSecret(); err != nil {
		return module.Change{}, err
	}
	listener, undo, err := e.listener.Prepare(context.Background(), config.Socket)
	if err != nil {
		return module.Change{}, err
	}
	return module.Change{Discard: undo, Commit: func() {
		e.issuer.Store(&config.Issuer)
		if listener != e.listener {
			e.listener.Close()
			e.serve(listener)
		}
	}}, nil
}

// Shutdown removes the socket. Accepted connections are answered immediately, so there is nothing to wait for.
func (e *Endpoint) Shutdown(context.Context) error {
	err := e.listener.Close()
	e.serving.Wait()
	return err
}
