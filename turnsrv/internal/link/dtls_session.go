package link

import (
	"bytes"
	"net"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/pion/dtls/v3"
	"github.com/pion/transport/v5/packetio"
)

// dtlsState is the progress of a handshake. It is derived from what pion/dtls sends, which shows what it has verified.
type dtlsState uint8

const (
	dtlsUnproven dtlsState = iota // the client's address may be spoofed
	dtlsProven                    // the client returned the cookie
	dtlsDone                      // the client's Finished was verified
)

// association is what serves a DTLS association after its handshake, instead of pion/dtls. Its methods are called on the goroutine of
// the loop.
type association interface {
	// receive processes a datagram of the client. It overwrites b.
	receive(b []byte, now time.Time)
	// replaced ends the association, because the client has begun another one.
	replaced()
}

// dtlsSession is one association of a DTLSListener in the form that pion/dtls requires: a net.PacketConn with a single remote
// address.
type dtlsSession struct {
	listener *DTLSListener
	tuple    event.FiveTuple
	packets  *packetio.Buffer
	done     atomic.Bool // state is dtlsDone; avoids taking a lock for each packet
	taken    atomic.Bool // from pion/dtls, which can neither send anything any more nor end the session

	// Guarded by the listener's mu.
	state          dtlsState
	ended          bool         // removed from the listener; pion/dtls may still be sending
	plain          int          // bytes that count towards MaxPlain
	next, previous *dtlsSession // sessions of the same client: a new handshake and the old session
	flight         []byte       // the datagram with the server's Finished
	early          [][]byte     // what has arrived since then, at most dtlsQueue bytes
	earlyLen       int
	association    association // serves the association; nil before, and if pion/dtls does
}

func newDTLSSession(l *DTLSListener, tuple event.FiveTuple) *dtlsSession {
	s := &dtlsSession{listener: l, tuple: tuple, packets: packetio.NewBuffer()}
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
	switch {
	case s.taken.Load():
		return len(b), nil
	case !s.done.Load():
		s.sends(b)
	}
	if err := s.write(b); err != nil {
		s.listener.counters.Drop(event.DropSend)
	}
	return len(b), nil
}

// write sends a datagram to the client.
func (s *dtlsSession) write(b []byte) error {
	return s.listener.socket.WritePacket(b, s.tuple.Client, s.tuple.Server.Addr())
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
			s.flight = bytes.Clone(b)
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
	old.stopLocked()
}

// stopLocked ends what serves the session.
func (s *dtlsSession) stopLocked() {
	s.ended, s.early = true, nil
	if s.association != nil {
		s.listener.loop.Post(s.association.replaced)
	}
	_ = s.packets.Close()
}

// endLocked removes the session from the listener and makes its next read fail.
func (s *dtlsSession) endLocked() {
	l := s.listener
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
	s.stopLocked()
}

// Close implements net.PacketConn. It may be called more than once.
func (s *dtlsSession) Close() error {
	if !s.taken.Load() {
		s.end()
	}
	return nil
}

// end ends the session.
func (s *dtlsSession) end() {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	s.association = nil
	s.endLocked()
}

// takeOver ends conn, which belongs to the session and has performed its handshake. It returns the keys, and the datagram with the
// server's Finished. After an error, the session has ended.
func (s *dtlsSession) takeOver(conn *dtls.Conn) (keys *dtlsKeys, flight []byte, err error) {
	s.taken.Store(true)
	keys, err = keysOf(conn)
	_ = conn.Close()
	_ = s.packets.Close()
	if err != nil {
		s.end()
		return nil, nil, err
	}
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	return keys, s.flight, nil
}

// serve makes a the receiver of what the client sends, and returns what it has sent since the handshake. live is false if the session
// has ended.
func (s *dtlsSession) serve(a association) (early [][]byte, live bool) {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	s.association = a
	early, s.early, s.flight = s.early, nil, nil
	return early, !s.ended
}

// laterLocked keeps a datagram for what will serve the session, and reports whether there is room.
func (s *dtlsSession) laterLocked(b []byte) bool {
	if s.earlyLen += len(b); s.earlyLen > dtlsQueue {
		return false
	}
	s.early = append(s.early, bytes.Clone(b))
	return true
}

// LocalAddr returns the address that the listener is bound to.
func (s *dtlsSession) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.tuple.Server) }

// SetDeadline sets the deadline of ReadFrom; WriteTo does not block.
func (s *dtlsSession) SetDeadline(t time.Time) error { return s.packets.SetReadDeadline(t) }

// SetReadDeadline sets the deadline of ReadFrom.
func (s *dtlsSession) SetReadDeadline(t time.Time) error { return s.packets.SetReadDeadline(t) }

// SetWriteDeadline does nothing: WriteTo does not block.
func (s *dtlsSession) SetWriteDeadline(time.Time) error { return nil }
