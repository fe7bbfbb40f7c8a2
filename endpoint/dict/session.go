package dict

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/endpoint/dict/dictproto"
)

const (
	// idleTimeout ends connections without requests, and those of clients that do not read. Dovecot then opens another one.
	idleTimeout = 10 * time.Minute
	// nextTimeout bounds the wait for each line of the next server: Dovecot waits for 30 seconds.
	nextTimeout = 25 * time.Second
	dialTimeout = 5 * time.Second
	// maxAnswerLine bounds a line of the next server, for which the protocol has no limit.
	maxAnswerLine = 1 << 20
)

// A session serves one client. Only the goroutine of run may use it, unless stated otherwise.
type session struct {
	endpoint *Endpoint
	client   net.Conn // its deadlines and Close are for everybody
	reader   *lineReader

	proto dictproto.Session
	hello string // of the client, said to the next server too

	path       string // of the next server, empty for none
	next       atomic.Pointer[net.Conn]
	nextReader *lineReader
	over       atomic.Bool // set by cut
}

// errNext wraps errors of the next server, which do not end the client's connection.
type errNext struct {
	err     error
	reached bool // the request has been sent
	begun   bool // and the client has had a part of the answer
}

func (e *errNext) Error() string { return e.err.Error() }

// run answers the client until it disconnects, speaks another protocol, or the endpoint shuts down.
func (s *session) run() {
	s.path = s.endpoint.present.Load().Next
	s.proto = dictproto.Session{Entries: s.endpoint.entries, HasNext: s.path != ""}
	defer s.closeNext()
	for {
		line, err := s.read()
		var action dictproto.Action
		if err == nil {
			action, err = s.proto.Next(line)
		}
		switch {
		case err == nil:
			if s.hello == "" {
				s.hello = line
			}
			err = s.act(action)
		case errors.Is(err, dictproto.ErrVersion):
			s.endpoint.lines.Log(s.endpoint.logger, slog.LevelError, "client not served", "err", err)
			return
		case !ended(err):
			s.endpoint.lines.Log(s.endpoint.logger, slog.LevelWarn, "client does not speak the dict protocol", "err", err)
			return
		}
		if err != nil {
			s.endpoint.logger.Debug("connection ended", "err", err)
			return
		}
	}
}

// ended reports whether err means only that the connection has ended.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET)
}

// read returns the next line of the client.
func (s *session) read() (string, error) {
	s.endpoint.mu.Lock()
	if s.endpoint.draining {
		s.endpoint.mu.Unlock()
		return "", net.ErrClosed
	}
	s.client.SetReadDeadline(time.Now().Add(idleTimeout))
	s.endpoint.mu.Unlock()
	return s.reader.next()
}

func (s *session) write(reply []byte) error {
	if len(reply) == 0 {
		return nil
	}
	s.client.SetWriteDeadline(time.Now().Add(idleTimeout))
	_, err := s.client.Write(reply)
	return err
}

// act handles a line. The error is about the client.
func (s *session) act(a dictproto.Action) error {
	if len(a.Forward) == 0 {
		return s.write(a.Reply)
	}
	fresh := s.nextReader == nil
	err := s.forward(a)
	failed, ok := errors.AsType[*errNext](err)
	if ok && !fresh && !failed.begun && a.Repeatable {
		// An existing connection: the next server may have restarted since it was last used.
		err = s.forward(a)
		failed, ok = errors.AsType[*errNext](err)
	}
	if ok {
		s.endpoint.lines.Log(s.endpoint.logger, slog.LevelWarn, "next dict server", "backend", s.path, "err", failed.err)
		reply := a.Unreached
		if failed.reached {
			reply = a.Lost
		}
		err = s.write(reply)
	}
	if err != nil {
		return err
	}
	return s.write(a.Reply)
}

// forward sends a request to the next server, and passes its answer on. After an errNext there is no connection to it.
func (s *session) forward(a dictproto.Action) error {
	conn, err := s.connect()
	if err != nil {
		return &errNext{err: err}
	}
	fail := func(err error, reached, begun bool) error {
		s.closeNext()
		s.proto.Lost()
		return &errNext{err, reached, begun}
	}
	conn.SetDeadline(time.Now().Add(nextTimeout))
	if _, err := conn.Write(a.Forward); err != nil {
		return fail(err, false, false)
	}
	s.proto.Sent(a)
	if a.Answer == nil {
		return nil
	}
	begun := false
	for {
		conn.SetDeadline(time.Now().Add(nextTimeout))
		line, err := s.nextReader.next()
		if err != nil {
			return fail(err, true, begun)
		}
		reply, done, err := a.Answer.Next(line)
		if err != nil {
			return fail(err, true, begun)
		}
		if len(reply) > 0 {
			begun = true
			if err := s.write(reply); err != nil {
				return err
			}
		}
		if done {
			return nil
		}
	}
}

// connect returns the connection to the next server, and opens one if there is none.
func (s *session) connect() (net.Conn, error) {
	if present := s.next.Load(); present != nil {
		return *present, nil
	}
	conn, err := net.DialTimeout("unix", s.path, dialTimeout)
	if err != nil {
		return nil, err
	}
	s.next.Store(&conn)
	if s.over.Load() { // cut has not seen it
		s.closeNext()
		return nil, net.ErrClosed
	}
	conn.SetDeadline(time.Now().Add(nextTimeout))
	if _, err := io.WriteString(conn, s.hello+"\n"); err != nil {
		s.closeNext()
		return nil, err
	}
	s.nextReader = newLineReader(conn, maxAnswerLine)
	return conn, nil
}

func (s *session) closeNext() {
	if present := s.next.Swap(nil); present != nil {
		(*present).Close()
	}
	s.nextReader = nil
}

// cut ends the session immediately. It is safe for concurrent use.
func (s *session) cut() {
	s.over.Store(true)
	s.client.Close()
	if present := s.next.Load(); present != nil {
		(*present).Close()
	}
}
