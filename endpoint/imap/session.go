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
	// handshakeTimeout bounds the TLS handshake with the client.
	handshakeTimeout = 20 * time.Second

	// defaultQuietAfter is how long a side is silent before another goroutine waits for it. Often enough the next command comes at
	// once, and the change would cost more than passing it on.
	defaultQuietAfter = 5 * time.Second

	byeShutdown = "[UNAVAILABLE] Server is shutting down"
)

// A session joins one client to its backend. One goroutine reads the client, another one the backend; between them stands
// the filter. The client's goroutine alone ends the session. Timers, Shutdown and the backend's goroutine do so by waking
// it.
//
// When nothing has come for a while, either one lets a fresh goroutine wait in its place: a goroutine keeps the stack that
// it has needed to pass things on, and thousands of sessions wait at any time.
type session struct {
	endpoint *Endpoint
	arrival
	logger  *slog.Logger
	client  *clientConn
	backend backend.Conn
	filter  *imapext.Filter
	// identifies: the filter is to tell the backend of the client before anything else.
	identifies bool
	// unheard: nothing of the client's has been read on a port where TLS does not come first.
	unheard bool
	// backendReader is the backend's goroutine.
	backendReader sync.WaitGroup
	// Each of the two belongs to the goroutine that reads into it.
	clientBuffer, backendBuffer readBuffer

	timer *time.Timer // from the beginning to the login, then from each sign of life
	// unsent is what was waiting for the two ends when the timer fired last.
	unsent int
	woken  chan struct{} // holds a token when wake was called
	// stopDialing ends the present or the last wait for a backend; nil before the first.
	stopDialing atomic.Pointer[context.CancelFunc]
	// keepOpen ends the watch for the end of Endpoint.ctx, which closes both connections.
	keepOpen func() bool

	refresh refreshTimer

	mu sync.Mutex // guards backend and timer when they are set, and when the timer's goroutine reads them

	timedOut atomic.Bool
	draining atomic.Bool
	loggedIn atomic.Bool // set by the backend's goroutine

	// backendDone is closed when nothing more comes from the backend; greeted is set before that, when anything did.
	backendDone chan struct{}
	greeted     bool
}

// begin begins the session of a connection that enter and enterUnauthenticated have counted, and returns false if it has
// ended already.
//
// It needs a deep stack, for TLS and dialling, so two fresh goroutines go on.
func (e *Endpoint) begin(a *arrival) (began bool) {
	s := &session{
		endpoint: e,
		arrival:  *a,
		logger:   e.logger.With("client", a.origin.Client.String()),
		client:   newClientConn(a.conn),
		woken:    make(chan struct{}, 1),
	}
	defer func() {
		if !began {
			s.leave()
		}
	}()
	if !e.enlist(s) {
		return false // Shutdown came first
	}
	s.mu.Lock()
	s.timer = time.AfterFunc(a.generation.config.LoginTimeout, s.timeOut)
	s.mu.Unlock()
	if a.implicitTLS && !s.startImplicitTLS() {
		return false
	}
	backend, err := s.dial()
	if err != nil {
		s.backendUnavailable(err)
		return false
	}
	s.unheard = !a.implicitTLS
	s.filter = s.newFilter(s.identification())
	s.conn.BeginPatience()
	s.join(backend)
	s.logger.Debug("session begins", "backend", s.generation.backend.String())
	e.serving.Go(s.clientSide)
	return true
}

// dial connects to the backend. wake ends the wait for it.
func (s *session) dial() (backend.Conn, error) {
	ctx, stop := context.WithCancel(s.endpoint.ctx)
	defer stop()
	s.stopDialing.Store(&stop)
	if s.timedOut.Load() || s.draining.Load() {
		return nil, context.Canceled // whoever says so may have done it too early for stop
	}
	return s.generation.backend.Dial(ctx, s.origin)
}

// identification returns what the backend is to be told of the client by ID; nil if it is told nothing so.
func (s *session) identification() []imapext.IDField {
	server := s.generation.config.Upstream
	if server == nil || server.ClientAddress != upstream.ClientAddressID {
		return nil
	}
	id := rand.Text()
	s.logger = s.logger.With("session", id)
	s.identifies = true
	return s.origin.Identification(id)
}

// newFilter returns the filter between the client, as it is connected now, and a backend that is told identify by ID.
func (s *session) newFilter(identify []imapext.IDField) *imapext.Filter {
	config := s.generation.config
	return imapext.New(imapext.Options{
		Entries:             &s.endpoint.entries,
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

// join begins to read the backend, through s.filter. From here on the session's goroutines block on the two connections and on
// nothing else for long.
func (s *session) join(backend backend.Conn) {
	s.mu.Lock()
	s.backend = backend
	s.mu.Unlock()
	s.backendDone = make(chan struct{})
	s.keepOpen = context.AfterFunc(s.endpoint.ctx, s.cut)
	s.backendReader.Go(s.backendSide)
}

// part ends what join has begun. Nothing reads the backend when it returns.
func (s *session) part() {
	s.backend.Close()
	s.backendReader.Wait()
	s.keepOpen()
}

// clientSide is the client's goroutine.
func (s *session) clientSide() {
	for s.passClient() {
		if quiet := s.conn.Await(s.endpoint.quietAfter); quiet {
			s.endpoint.serving.Go(s.awaitClient)
			return
		}
	}
	s.end()
}

func (s *session) awaitClient() {
	s.conn.Await(0)
	s.clientSide()
}

// backendSide is the backend's goroutine. At the end it closes the backend, because nobody reads it any more: the client's
// goroutine may be writing to it, and it may be waiting to be read.
func (s *session) backendSide() {
	for s.passBackend() {
		if quiet := s.backend.Await(s.endpoint.quietAfter); quiet {
			s.backendReader.Go(s.awaitBackend)
			return
		}
	}
	s.backend.Close()
	close(s.backendDone)
	s.wake()
}

func (s *session) awaitBackend() {
	s.backend.Await(0)
	s.backendSide()
}

// end ends a session that has begun.
func (s *session) end() {
	s.part()
	s.leave()
	s.endpoint.leave(&s.arrival)
	s.conn.Close()
	s.logger.Debug("session ended")
}

func (s *session) startImplicitTLS() bool {
	tlsConn, err := s.endpoint.handshake(&s.arrival, handshakeTimeout)
	if err != nil {
		s.logger.Debug("TLS handshake", "err", err)
		if header, ok := errors.AsType[tls.RecordHeaderError](err); ok && header.Conn != nil { // it does not speak TLS
			s.client.sayBye("This port requires TLS from the first byte")
		}
		return false
	}
	s.client.replace(tlsConn)
	s.origin.TLS = tlsConn.ConnectionState().Version
	return true
}

// recoverPanic, deferred, keeps a bug of ours from ending the sessions of others.
func recoverPanic(logger *slog.Logger) {
	if v := recover(); v != nil {
		logger.Error("panic in an IMAP session", "err", v, "stack", string(debug.Stack()))
	}
}

// enlist makes the session known to Shutdown, or returns false when that has begun.
func (e *Endpoint) enlist(s *session) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.draining {
		return false
	}
	e.sessions[s] = struct{}{}
	return true
}

// leave takes the session out of the counts of sessions.
func (s *session) leave() {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.refresh.stop()
	e := s.endpoint
	if !s.loggedIn.Load() {
		e.leaveUnauthenticated(s.origin)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, s)
}

// backendUnavailable ends a session that got no backend, with the backend's own words if it had some.
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
	if allowed, suppressed := s.endpoint.outage.Allow(time.Now()); allowed {
		s.logger.Warn("backend cannot be reached", "backend", s.generation.backend.String(), "err", err, "suppressed", suppressed)
	}
	s.client.sayBye("[UNAVAILABLE] Mail server cannot be reached: try again later")
}

// clientHalfClosed passes a half close on: the backend may have answers left for the client.
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
	s.loggedIn.Store(true)
	s.endpoint.leaveUnauthenticated(s.origin)
}

// signOfLife puts the idle time-out off. Before login nothing does: the time to log in is limited as a whole.
func (s *session) signOfLife() {
	if s.loggedIn.Load() && !s.timedOut.Load() {
		s.timer.Reset(s.generation.config.IdleTimeout.V)
	}
}

// timeOut is called by the timer, which is all that bounds a write: a read or a completed write is a sign of life, and a
// client may take its time over a large message, as may a mail server whose disk is busy. While bytes wait that one end or
// the other keeps taking, the session goes on. One that does not end by itself then is cut off.
func (s *session) timeOut() {
	s.mu.Lock()
	timer := s.timer
	s.mu.Unlock()
	switch {
	case s.timedOut.Load():
		s.cut()
	case s.loggedIn.Load() && s.takes():
		timer.Reset(patient.StallTimeout)
	default:
		s.timedOut.Store(true)
		timer.Reset(byeTimeout)
		s.wake()
	}
}

// takes reports whether bytes are waiting for the client or the backend, and fewer or others than at the last call.
func (s *session) takes() bool {
	before := s.unsent
	s.mu.Lock()
	backend := s.backend
	s.mu.Unlock()
	s.unsent = s.client.raw.Unsent() + backend.Unsent()
	return s.unsent != 0 && s.unsent != before
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

// drain asks the session to end as soon as the client waits for nothing.
func (s *session) drain() {
	s.draining.Store(true)
	s.wake()
}

// wake interrupts the client's goroutine wherever it waits: for a backend, for the client or for the filter.
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

// ended looks why the client's goroutine was woken. It returns true when the session is over and the client knows.
func (s *session) ended() bool {
	// What wakes it after this line wakes it again.
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
	case s.timedOut.Load() && s.client.writing.Load(): // so the client cannot be told
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

// bye ends the session with words of ours where the client can take them for what they are: between two responses.
func (s *session) bye(text string) {
	s.filter.Bye(text)
	if s.filter.WriteClient(s.client) == nil {
		s.client.lingeringClose(patient.StallTimeout)
	}
}

// backendEnded ends the session after the backend's last word, which was passed on.
func (s *session) backendEnded() {
	if !s.greeted {
		s.backendUnavailable(errors.New("connection closed before the greeting"))
		return
	}
	s.client.lingeringClose(patient.StallTimeout)
}
