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

// writeTimeout bounds what cannot happen: the few bytes find room in the buffer of a socket that is new.
const writeTimeout = time.Second

// An Endpoint serves credentials. Its methods are for one goroutine.
//
// One goroutine answers the connections one after another: each takes a write to a new socket, which does not wait for the
// reader. So no number of readers, and none that vanishes or reads nothing, takes more than its place in the backlog of
// the system.
type Endpoint struct {
	logger   *slog.Logger
	socket   socket.Config // for Start
	issuer   atomic.Pointer[issuer.Config]
	listener *socket.Listener
	serving  sync.WaitGroup
}

// New prepares an endpoint, whose configuration has to have a secret. It makes no socket.
func New(config Config, logger *slog.Logger) (*Endpoint, error) {
	if err := config.Issuer.CheckSecret(); err != nil {
		return nil, err
	}
	e := &Endpoint{logger: logger, socket: config.Socket}
	e.issuer.Store(&config.Issuer)
	return e, nil
}

// Start makes the socket and serves on it until Shutdown.
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

// answer gives a credential to the one who has connected.
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

// Prepare implements module.Reloader. A new socket is made at once and answered from Commit on.
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

// Shutdown removes the socket. What has been accepted is answered at once, so there is nothing to wait for.
func (e *Endpoint) Shutdown(context.Context) error {
	err := e.listener.Close()
	e.serving.Wait()
	return err
}
