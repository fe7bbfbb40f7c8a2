package imap

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/backend"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
	"github.com/mailturn/mailturn/endpoint/imap/upstream"
	"github.com/mailturn/mailturn/imapext"
)

const (
	// handshakeTimeout limits the TLS handshake with the client.
	handshakeTimeout = 20 * time.Second

	// defaultQuietAfter is how long a side is silent before its goroutine ends. Often the next command follows immediately, and a
	// new goroutine would cost more than passing the command on.
	defaultQuietAfter = 5 * time.Second

	byeShutdown = "[UNAVAILABLE] Server is shutting down"
)

// A session connects one client with its backend. One goroutine reads from the client, another one from the backend, with the
// filter between them. Only the client's goroutine ends the session. Timers, Shutdown and the backend's goroutine do so by waking
// it.
//
// If nothing has arrived for a while, either goroutine ends, and another one begins when something has: thousands of sessions wait at
// any time.
type session struct {
	endpoint *Endpoint
	arrival
	id      string // in log lines, and told to the backend; empty if that is told nothing
	client  *clientConn
	backend backend.Conn
	filter  *imapext.Filter
	// identifies is true until the filter has told the backend about the client, which comes before anything else.
	identifies bool
	// unheard is true until something has been read from the client, on a port where TLS does not come first.
	unheard bool
	// backendReader is the backend's goroutine.
	backendReader sync.WaitGroup
	// Each of these is used only by the goroutine that reads into it.
	clientBuffer, backendBuffer readBuffer

	autologout autologoutTimer
	// unsent is how many bytes were waiting for the two ends when takes was last called.
	unsent int
	woken  chan struct{} // holds a token when wake was called
	// stopDialing ends the current or last wait for a backend; nil before the first.
	stopDialing atomic.Pointer[context.CancelFunc]

	refresh refreshTimer

	mu sync.Mutex // guards backend while it is set, and while other goroutines than the session's read it

	timedOut atomic.Bool
	draining atomic.Bool
	loggedIn atomic.Bool // set by the backend's goroutine

	// backendDone is closed when nothing more will arrive from the backend; greeted is set before that, if anything arrived.
	backendDone chan struct{}
	greeted     bool
}

// begin begins the session of a connection that enter and enterUnauthenticated have counted. The caller continues with clientSide. It
// returns nil if the session has ended already.
func (e *Endpoint) begin(a *arrival) (begun *session) {
	limits := &a.generation.config
	s := &session{
		endpoint:   e,
		arrival:    *a,
		client:     newClientConn(a.conn),
		autologout: autologoutTimer{login: limits.LoginTimeout, idle: limits.IdleTimeout.V},
		woken:      make(chan struct{}, 1),
	}
	defer func() {
		if begun == nil {
			s.leave()
		}
	}()
	if !e.enlist(s) {
		return nil // Shutdown came first
	}
	s.autologout.begin(s.timeOut)
	if a.implicitTLS && !s.startImplicitTLS() {
		return nil
	}
	backend, err := s.dial()
	if err != nil {
		s.backendUnavailable(err)
		return nil
	}
	s.unheard = !a.implicitTLS
	s.filter = s.newFilter(s.identification())
	s.conn.BeginPatience()
	s.join(backend)
	s.debug("session begins", "backend", s.generation.backend.String())
	return s
}

// dial connects to the backend. wake ends the wait for it.
func (s *session) dial() (backend.Conn, error) {
	ctx, stop := context.WithCancel(s.endpoint.ctx)
	defer stop()
	s.stopDialing.Store(&stop)
	if s.timedOut.Load() || s.draining.Load() {
		return nil, context.Canceled // it may have been set too early to call stop
	}
	return s.generation.backend.Dial(ctx, s.origin)
}

// identification returns what the backend is told about the client by ID, or nil for nothing.
func (s *session) identification() []imapext.IDField {
	server := s.generation.config.Upstream
	if server == nil || server.ClientAddress != upstream.ClientAddressID {
		return nil
	}
	s.id = rand.Text()
	s.identifies = true
	return s.origin.Identification(s.id)
}

// newFilter returns the filter between the client, as currently connected, and a backend that is sent identify by ID.
func (s *session) newFilter(identify []imapext.IDField) *imapext.Filter {
	config := s.generation.config
	return imapext.New(imapext.Options{
		Entries:             &s.endpoint.entries,
		Ending:              s.issuesNothing,
		Remote:              s.origin.Client,
		TLS:                 s.origin.TLS != 0,
		StartTLS:            true,
		Identify:            identify,
		Compress:            config.Compress,
		AllowPlaintextLogin: config.InsecureAuth || s.origin.Local(),
		CountMessages:       config.TURN.WakeIdle.V,
		Gave:                s.gave,
	})
}

// issuesNothing reports whether the session must not issue credentials any more, because another process serves, which would not know
// whose they are. It then ends the session.
func (s *session) issuesNothing() bool {
	if !s.endpoint.retired.Load() {
		return false
	}
	s.drain()
	return true
}

// join starts reading from the backend, through s.filter. From here on the session's goroutines block for long only on the two
// connections.
func (s *session) join(backend backend.Conn) {
	s.mu.Lock()
	s.backend = backend
	s.mu.Unlock()
	if s.endpoint.ctx.Err() != nil {
		s.cut() // closeSessions may have come before s.backend was set
	}
	s.backendDone = make(chan struct{})
	s.backendReader.Go(s.backendSide)
}

// part undoes join. Nothing reads from the backend when it returns.
func (s *session) part() {
	s.backend.Close()
	s.backendReader.Wait()
}

// clientSide is the client's goroutine.
func (s *session) clientSide() {
	for s.passClient() {
		if quiet := s.conn.Await(s.endpoint.quietAfter); quiet {
			s.endpoint.serving.Add(1)
			s.conn.Rest(&s.endpoint.lobby, s.wakeClientSide)
			return
		}
	}
	s.end()
}

func (s *session) wakeClientSide() {
	defer s.endpoint.serving.Done()
	s.clientSide()
}

// backendSide is the backend's goroutine. At the end it closes the backend, which nobody reads from any more: otherwise the client's
// goroutine could be stuck writing to a backend that waits to be read.
func (s *session) backendSide() {
	for s.passBackend() {
		if quiet := s.backend.Await(s.endpoint.quietAfter); quiet {
			s.backendReader.Add(1)
			s.backend.Rest(&s.endpoint.lobby, s.wakeBackendSide)
			return
		}
	}
	s.backend.Close()
	close(s.backendDone)
	s.wake()
}

func (s *session) wakeBackendSide() {
	defer s.backendReader.Done()
	s.backendSide()
}

// end ends a session that has begun.
func (s *session) end() {
	s.part()
	s.leave()
	s.endpoint.leave(&s.arrival)
	s.conn.Close()
	s.debug("session ended")
}

// handshake performs TLS with the client, in handshakeTimeout, unless what it writes does not fit into the system's buffer: then timeOut
// ends it. wake ends it, too.
func (s *session) handshake() (*tlsConn, error) {
	s.limitReads(time.Now().Add(handshakeTimeout))
	defer s.limitReads(time.Time{})
	return s.arrival.handshake(context.Background())
}

// limitReads sets the client's read deadline, unless wake has: its deadline counts until ended is called.
func (s *session) limitReads(t time.Time) {
	s.client.raw.SetReadDeadline(t)
	if len(s.woken) > 0 { // the deadline of wake may have been replaced
		s.wake()
	}
}

func (s *session) startImplicitTLS() bool {
	tlsConn, err := s.handshake()
	if err != nil {
		s.debug("TLS handshake", "err", err)
		if header, ok := errors.AsType[tls.RecordHeaderError](err); ok && header.Conn != nil { // it does not speak TLS
			s.client.sayBye("This port requires TLS from the first byte")
		}
		return false
	}
	s.client.replace(tlsConn)
	s.origin.TLS = tlsConn.ConnectionState().Version
	return true
}

// logger returns the logger for lines about the session. Most sessions write none, so it is made for each line.
func (s *session) logger() *slog.Logger {
	logger := s.endpoint.logger.With("client", s.origin.Client.String())
	if s.id != "" {
		logger = logger.With("session", s.id)
	}
	return logger
}

// debug writes a line about the session at the debug level.
func (s *session) debug(message string, args ...any) {
	if s.endpoint.logger.Enabled(context.Background(), slog.LevelDebug) {
		s.logger().Debug(message, args...)
	}
}

// recoverPanic, deferred, keeps a bug in one session from ending the others.
func recoverPanic(logger func() *slog.Logger) {
	if v := recover(); v != nil {
		logger().Error("panic in an IMAP session", "err", v, "stack", string(debug.Stack()))
	}
}

// enlist registers the session for Shutdown, or returns false if that has begun.
func (e *Endpoint) enlist(s *session) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.draining {
		return false
	}
	e.sessions[s] = struct{}{}
	return true
}

// leave removes the session from the counts of sessions.
func (s *session) leave() {
	s.autologout.stop()
	s.refresh.stop()
	e := s.endpoint
	if !s.loggedIn.Load() {
		e.leaveUnauthenticated(s.origin)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, s)
}

// backendUnavailable ends a session that has no backend, with the backend's own BYE if there was one.
func (s *session) backendUnavailable(err error) {
	if bye, ok := errors.AsType[*backend.ByeError](err); ok {
		s.client.sayBye(bye.Text)
		return
	}
	if s.draining.Load() {
		s.client.sayBye(byeShutdown)
		return
	}
	if s.timedOut.Load() {
		err = errors.New("no greeting within login_timeout")
	}
	s.endpoint.outage.Log(s.logger(), slog.LevelWarn, "backend cannot be reached", "backend", s.generation.backend.String(), "err", err)
	s.client.sayBye("[UNAVAILABLE] Mail server cannot be reached: try again later")
}

// clientHalfClosed passes a half-close on: the backend may still have answers for the client.
func (s *session) clientHalfClosed() {
	s.backend.CloseWrite()
	for {
		select {
		case <-s.backendDone:
			s.backendEnded()
			return
		case <-s.woken:
			if s.ended() {
				return
			}
		}
	}
}

// noteLogin moves the session from the limits before login to those after it.
func (s *session) noteLogin() {
	if s.loggedIn.Load() || !s.filter.LoggedIn() {
		return
	}
	s.autologout.signOfLife()
	s.loggedIn.Store(true)
	s.endpoint.leaveUnauthenticated(s.origin)
}

// cut closes both connections. It is safe for concurrent use.
func (s *session) cut() {
	s.conn.Close()
	s.mu.Lock()
	backend := s.backend
	s.mu.Unlock()
	if backend != nil {
		backend.Close()
	}
}

// drain asks the session to end as soon as the client is not waiting for anything.
func (s *session) drain() {
	s.draining.Store(true)
	s.wake()
}

// wake interrupts the client's goroutine wherever it is waiting: for a backend, the client or the filter.
func (s *session) wake() {
	if stop := s.stopDialing.Load(); stop != nil {
		(*stop)()
	}
	select {
	case s.woken <- struct{}{}:
	default:
	}
	s.client.raw.SetReadDeadline(time.Unix(1, 0))
}

// ended checks why the client's goroutine was woken. It returns true if the session is over and the client has been told.
func (s *session) ended() bool {
	// Whatever wakes the goroutine after this line wakes it again.
	select {
	case <-s.woken:
	default:
	}
	s.client.raw.SetReadDeadline(time.Time{})

	select {
	case <-s.backendDone:
		s.backendEnded()
		return true
	default:
	}
	if s.refresh.due.CompareAndSwap(true, false) {
		s.wakeIdle()
	}
	switch {
	case s.timedOut.Load() && s.client.writing.Load(): // the client cannot be told
		s.cut()
	case s.timedOut.Load() && s.loggedIn.Load():
		s.bye("Autologout; idle too long")
	case s.timedOut.Load():
		s.bye("Autologout; too slow to log in")
	case s.draining.Load() && s.filter.Quiet():
		s.bye(byeShutdown)
	default:
		return false
	}
	return true
}

// bye ends the session with a BYE of our own, sent between two responses, where the client can parse it.
func (s *session) bye(text string) {
	s.filter.Bye(text)
	if s.filter.WriteClient(s.client) == nil {
		s.client.lingeringClose(patient.StallTimeout)
	}
}

// backendEnded ends the session after the backend's last bytes have been passed on.
func (s *session) backendEnded() {
	if !s.greeted {
		s.backendUnavailable(errors.New("connection closed before the greeting"))
		return
	}
	s.client.lingeringClose(patient.StallTimeout)
}
