package imap

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/deflate"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
	"github.com/mailturn/mailturn/imapext"
)

// passClient passes on what has arrived from the client. It returns false when the session is over and both connections are closed.
func (s *session) passClient() (more bool) {
	defer recoverPanic(s.logger)
	if s.identifies {
		s.identifies = false
		if !s.identify() {
			return false
		}
	}
	defer s.clientBuffer.release()
	for n := 0; ; {
		buf := s.clientBuffer.next(n, s.loggedIn.Load())
		var err error
		n, err = s.client.Read(buf)
		if n > 0 {
			s.signOfLife()
			if s.unheard && isTLSRecord(buf[:n]) {
				s.debug("TLS on a plain port before STARTTLS")
				s.client.sayBye("On this port, TLS starts with the command STARTTLS")
				return false
			}
			s.unheard = false
			if !s.fromClient(buf[:n]) {
				return false
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, patient.ErrNothingYet):
			return true
		case errors.Is(err, os.ErrDeadlineExceeded): // wake
			if s.ended() {
				return false
			}
		case errors.Is(err, io.EOF):
			s.clientHalfClosed()
			return false
		case errors.Is(err, deflate.ErrCorrupt):
			s.debug("inflate from the client", "err", err)
			s.bye("Invalid compressed data")
			return false
		default:
			s.debug("read from the client", "err", err)
			return false
		}
	}
}

// identify lets the filter tell the backend about the client before the client sends anything. It returns false if the session has
// ended.
func (s *session) identify() bool {
	if !s.fromClient(nil) {
		return false
	}
	if !s.filter.Identified() {
		s.endpoint.unidentified.Log(s.logger(), slog.LevelWarn, "backend does not announce ID and is not told the client's address",
			"backend", s.generation.backend.String())
	}
	return true
}

// isTLSRecord reports whether b, a client's first bytes, starts a TLS handshake (RFC 8446 section 5.1) and so is not IMAP.
func isTLSRecord(b []byte) bool {
	return len(b) >= 2 && b[0] == 22 && b[1] == 3
}

// fromClient passes p through the filter. It returns false if the session has ended.
func (s *session) fromClient(p []byte) bool {
	var stalled <-chan time.Time // runs since the backend was to request a literal
	for {
		n, event := s.filter.FromClient(p)
		p = p[n:]
		if n > 0 || !s.filter.AwaitsContinuation() {
			stalled = nil
		}
		if err := s.filter.WriteBackend(s.backend); err != nil {
			s.debug("write to the backend", "err", err)
			<-s.backendDone // which may have said why
			s.backendEnded()
			return false
		}
		if err := s.filter.WriteClient(s.client); err != nil {
			s.debug("write to the client", "err", err)
			return false
		}
		switch event {
		case imapext.Wait:
			if stalled == nil && s.filter.AwaitsContinuation() {
				stalled = time.After(patient.StallTimeout)
			}
			select {
			case <-stalled:
				s.debug("backend neither requests a literal nor refuses it")
				s.bye("[UNAVAILABLE] Mail server does not accept the command")
				return false
			case <-s.filter.Resume():
			case <-s.woken:
				if s.ended() {
					return false
				}
			}
		case imapext.StartTLS:
			return s.startTLS()
		case imapext.Compress:
			return s.compress(p)
		case imapext.Uncompress:
			return s.uncompress()
		case imapext.Close:
			s.client.lingeringClose(patient.StallTimeout)
			return false
		default:
			if len(p) == 0 {
				return true
			}
		}
	}
}

// compress starts compression after COMPRESS. begun is what the client has sent after the command.
func (s *session) compress(begun []byte) bool {
	s.client.replace(newCompressedConn(*s.client.present.Load(), begun))
	s.filter.Compressed()
	s.debug("compression started")
	return s.filter.WriteClient(s.client) == nil
}

// uncompress ends compression after UNAUTHENTICATE (RFC 8437 section 4.1).
func (s *session) uncompress() bool {
	if conn, ok := (*s.client.present.Load()).(*compressedConn); ok {
		s.client.replace(newUncompressedConn(conn))
	}
	s.filter.Uncompressed()
	s.debug("compression ended")
	return s.filter.WriteClient(s.client) == nil
}

// passBackend passes on what has arrived from the backend. It returns false if nothing more will arrive, or the session is over.
func (s *session) passBackend() (more bool) {
	defer recoverPanic(s.logger)
	defer s.backendBuffer.release()
	for n := 0; ; {
		buf := s.backendBuffer.next(n, s.loggedIn.Load())
		var err error
		n, err = s.backend.Read(buf)
		if n > 0 {
			s.greeted = true
			if err := s.filter.FromBackend(buf[:n]); err != nil {
				s.logger().Warn("backend sent too much during TLS or COMPRESS", "err", err)
				return false
			}
			s.noteLogin() // before the client learns of it, and opens another connection
			if err := s.filter.WriteClient(s.client); err != nil {
				s.debug("write to the client", "err", err)
				return false
			}
			s.signOfLife()
			if s.draining.Load() {
				s.wake()
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, patient.ErrNothingYet):
			return true
		case errors.Is(err, io.EOF):
			return false
		default:
			s.debug("read from the backend", "err", err)
			return false
		}
	}
}
