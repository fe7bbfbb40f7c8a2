// Package control serves HTTP with JSON on a Unix socket, to the operators of a running process, and calls such a server.
//
// Whoever may write to the socket may do everything: its permissions are the only access control.
package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mailturn/mailturn/framework/socket"
)

const (
	// maxConns is how many connections are served at a time. Further ones wait in the backlog of the system.
	maxConns = 64
	// readTimeout bounds how long a request may take to arrive.
	readTimeout = 5 * time.Second
	// idleTimeout bounds how long a connection keeps its place after a response.
	idleTimeout = time.Second
	// progressTimeout bounds how long a client may take to read a piece of a response, and readLimit the whole of it.
	progressTimeout = 3 * time.Second
	readLimit       = 30 * time.Second
	// pieceSize is the number of bytes in a piece.
	pieceSize = 64 << 10
	// AnswerTimeout bounds how long a request may take, without the time in which the client reads the response.
	AnswerTimeout = 2 * time.Minute
	// maxHeader is the size limit of a request's headers in bytes.
	maxHeader = 8 << 10
)

// Server serves on one socket. Its methods are for one goroutine.
type Server struct {
	listener *socket.Listener
	http     http.Server
	serving  sync.WaitGroup
}

// Listen makes the socket and serves handler on it until Close. CallerOf returns who sent a request. Errors are those of
// socket.Listen: the socket of a process that has ended is replaced, that of a running one is not.
func Listen(ctx context.Context, c socket.Config, handler http.Handler, logger *slog.Logger) (*Server, error) {
	listener, err := socket.Listen(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &Server{listener: listener, http: http.Server{
		Handler:           boundBody(handler),
		ReadHeaderTimeout: readTimeout,
		WriteTimeout:      AnswerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, conn.(*placedConn).caller)
		},
	}}
	s.serving.Go(func() {
		err := s.http.Serve(&boundedListener{Listener: listener, places: make(chan struct{}, maxConns), closed: make(chan struct{})})
		if !errors.Is(err, http.ErrServerClosed) {
			logger.Error("control socket ended", "err", err)
		}
	})
	return s, nil
}

// Close removes the socket and ends the connections that are idle at once, and those with a request when it is answered or ctx
// is done.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	s.serving.Wait()
	return err
}

// boundBody bounds the time in which a body arrives. Server.ReadTimeout would also end the context of a request that takes longer
// to answer.
func boundBody(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != http.NoBody {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout)) // until Read has read it
		}
		handler.ServeHTTP(w, r)
	})
}

// boundedListener accepts a connection only if there is a place for it.
type boundedListener struct {
	*socket.Listener
	places  chan struct{}
	closed  chan struct{}
	closing sync.Once
	err     error // of closing the socket
}

// Accept waits for a place and a connection.
func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.AcceptUnix()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &placedConn{UnixConn: conn, caller: callerOn(conn), places: l.places}, nil
}

// Close removes the socket. It may be called several times.
func (l *boundedListener) Close() error {
	l.closing.Do(func() {
		close(l.closed)
		l.err = l.Listener.Close()
	})
	return l.err
}

// placedConn is a connection that holds a place.
type placedConn struct {
	*net.UnixConn
	caller Caller
	places chan struct{}
	ending sync.Once
}

// Close ends the connection and gives its place to the next one.
func (c *placedConn) Close() error {
	c.ending.Do(func() { <-c.places })
	return c.UnixConn.Close()
}
