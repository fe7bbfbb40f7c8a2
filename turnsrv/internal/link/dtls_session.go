package link

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/pion/transport/v5/packetio"
)

// dtlsState is the progress of a handshake. It is derived from what pion/dtls sends, which shows what it has verified.
type dtlsState uint8

const (
	dtlsUnproven dtlsState = iota // the client's address may be spoofed
	dtlsProven                    // the client returned the cookie
	dtlsDone                      // the client's Finished was verified
)

// dtlsSession is one association of a DTLSListener in the form that pion/dtls requires: a net.PacketConn with a single remote
// address.
type dtlsSession struct {
	listener *DTLSListener
	tuple    event.FiveTuple
	packets  *packetio.Buffer
	done     atomic.Bool // state is dtlsDone; avoids taking a lock for each packet
	silence  session.Silence

	// Guarded by the listener's mu.
	state          dtlsState
	ended          bool         // removed from the listener; pion/dtls may still be sending
	plain          int          // bytes that count towards MaxPlain
	next, previous *dtlsSession // sessions of the same client: a new handshake and the old session
}

func newDTLSSession(l *DTLSListener, tuple event.FiveTuple) *dtlsSession {
	s := &dtlsSession{listener: l, tuple: tuple, packets: packetio.NewBuffer(), silence: session.Silence{Since: time.Now()}}
	s.packets.SetLimitSize(dtlsQueue)
	return s
}

// admitLocked returns the records of a packet that may be passed to pion/dtls. Until the client's address is proven, only a
// ClientHello may. It overwrites b.
func (s *dtlsSession) admitLocked(b []byte) []byte {
	counted := len(b)
	if s.state == dtlsUnproven {
		if r, rest, ok := CutRecord(b); !ok || len(rest) > 0 || r.HandshakeType() != dtlsClientHello {
			return nil
		}
	} else {
		done := s.state == dtlsDone
		var plain int
		if b, plain = admissibleRecords(b, done); done {
			counted = plain
		}
	}
	if s.plain+counted > MaxPlain {
		return nil
	}
	s.plain += counted
	return b
}

// ReadFrom implements net.PacketConn.
func (s *dtlsSession) ReadFrom(p []byte) (int, net.Addr, error) {
	n, _, err := s.packets.Read(p, nil)
	return n, nil, err
}

// WriteTo implements net.PacketConn. It ignores addr, because there is only one remote address.
func (s *dtlsSession) WriteTo(b []byte, _ net.Addr) (int, error) {
	if !s.done.Load() {
		s.sends(b)
	} else if s.silence.LeaveOut(s.listener.socket.Full, time.Now()) {
		s.listener.counters.Drop(event.DropSend)
		return len(b), nil
	}
	if err := s.listener.socket.WritePacket(b, s.tuple.Client, s.tuple.Server.Addr()); err != nil {
		s.listener.counters.Drop(event.DropSend)
	}
	return len(b), nil
}

// sends updates the state from what pion/dtls sends during a handshake. pion/dtls sends only a HelloVerifyRequest to an
// unproven address. It sends an encrypted record, its Finished, after it has verified the client's.
func (s *dtlsSession) sends(b []byte) {
	l := s.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := b; ; {
		r, after, ok := CutRecord(rest)
		if !ok {
			return
		}
		switch {
		case r.Epoch > 0:
			s.state = dtlsDone
			s.done.Store(true)
			l.finishedLocked(s)
		case !s.ended && s.state == dtlsUnproven && r.HandshakeType() != 0 && r.HandshakeType() != DTLSHelloVerifyRequest:
			s.state = dtlsProven
			l.provenLocked(s)
			s.replaceLocked()
		}
		rest = after
	}
}

// replaceLocked ends the old session that this one replaces.
func (s *dtlsSession) replaceLocked() {
	old := s.previous
	if old == nil {
		return
	}
	s.previous, old.next = nil, nil
	s.listener.sessions[s.tuple] = s
	_ = old.packets.Close()
}

// endLocked removes the session from the listener and makes its next read fail.
func (s *dtlsSession) endLocked() {
	l := s.listener
	s.ended = true
	l.finishedLocked(s)
	switch {
	case l.sessions[s.tuple] == s && s.next != nil:
		s.next.previous = nil
		l.sessions[s.tuple] = s.next
	case l.sessions[s.tuple] == s:
		delete(l.sessions, s.tuple)
	case s.previous != nil:
		s.previous.next = nil
	}
	s.next, s.previous = nil, nil
	_ = s.packets.Close()
}

// Close implements net.PacketConn. It may be called more than once.
func (s *dtlsSession) Close() error {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	s.endLocked()
	return nil
}

// LocalAddr returns the address that the listener is bound to.
func (s *dtlsSession) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.tuple.Server) }

// SetDeadline sets the deadline of ReadFrom; WriteTo does not block.
func (s *dtlsSession) SetDeadline(t time.Time) error { return s.packets.SetReadDeadline(t) }

// SetReadDeadline sets the deadline of ReadFrom.
func (s *dtlsSession) SetReadDeadline(t time.Time) error { return s.packets.SetReadDeadline(t) }

// SetWriteDeadline does nothing: WriteTo does not block.
func (s *dtlsSession) SetWriteDeadline(time.Time) error { return nil }
