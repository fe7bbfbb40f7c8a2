package link

import (
	"encoding/binary"
	"net"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

const (
	// maxDTLSNumber is the highest sequence number of a record, RFC 6347 section 4.1.
	maxDTLSNumber = 1<<48 - 1
	// maxDTLSFlight limits the bytes of the last datagram of a handshake that another process has performed.
	maxDTLSFlight = 2048
	// dtlsMargin is how many sequence numbers an association skips when two processes have had its keys, and the successor skips twice as
	// many. The other one should have sent nothing since, but a number that is used twice would reveal keys of AES-GCM.
	dtlsMargin = 1 << 32
)

// Alerts, RFC 5246 section 7.2.
const (
	dtlsWarning     = 1
	dtlsFatal       = 2
	dtlsCloseNotify = 0
)

// loopAssociation is a DTLS association on an event loop. pion/dtls has performed its handshake. The loop is that of the socket, and
// decrypts and encrypts on its goroutine, which owns everything.
type loopAssociation struct {
	stream   *stream
	session  *dtlsSession
	keys     *dtlsKeys
	flight   []byte // the server's last flight, until the client is known to have received it
	cut      bool   // the association ends without a close_notify
	exported bool   // another process has the keys, and may send: nothing is sent
	ended    bool
}

// moveAssociation makes the loop serve a DTLS association after its handshake, and reports whether it could.
func (s *stream) moveAssociation(conn *dtlsConn) bool {
	keys, flight, err := conn.session.takeOver(conn.Conn)
	if err != nil {
		return false // the connection is closed
	}
	a := &loopAssociation{stream: s, session: conn.session, keys: keys, flight: flight}
	s.mu.Lock()
	s.onLoop = a
	s.conn = nil // several kilobytes
	shut := s.shut
	s.mu.Unlock()
	s.link.loop.Post(func() {
		if shut {
			a.end()
			return
		}
		a.begin(time.Now())
	})
	return true
}

// begin makes the loop serve the association. What has arrived since the handshake comes first.
func (a *loopAssociation) begin(now time.Time) {
	early, live := a.session.serve(a)
	if a.ended {
		return
	}
	if !live || a.stream.link.ended {
		a.end()
		return
	}
	a.stream.link.expire.set(a.stream, now.Add(UnallocatedTimeout))
	for _, b := range early {
		if !a.exported { // otherwise the client sends it again
			a.receive(b, now)
		}
	}
}

// receive processes a datagram of the client. It overwrites b.
func (a *loopAssociation) receive(b []byte, now time.Time) {
	for len(b) > 0 && !a.ended {
		r, rest, whole := CutRecord(b)
		if !whole {
			a.stream.link.counters.Drop(event.DropDTLS)
			return
		}
		a.record(r, b[:len(b)-len(rest)], now)
		b = rest
	}
}

// record processes a record. RFC 6347 section 4.1.2.7 requires invalid ones to be discarded silently.
func (a *loopAssociation) record(r dtlsRecord, whole []byte, now time.Time) {
	counters := a.stream.link.counters
	number := binary.BigEndian.Uint64(whole[3:]) & maxDTLSNumber
	if r.Epoch != dtlsEpoch || !r.admissible(false) || !a.keys.replay.fresh(number) {
		counters.Drop(event.DropDTLS)
		return
	}
	message, err := a.keys.read.open(whole)
	if err != nil {
		counters.Drop(event.DropDTLS)
		return
	}
	a.keys.replay.add(number)
	switch r.contentType {
	case dtlsApplicationData:
		a.flight = nil
		if len(message) > KeepBuffer {
			counters.Drop(event.DropOversize)
			return
		}
		a.stream.Receive(message, a.stream.tuple.Client, a.stream.tuple.Server.Addr(), now)
	case dtlsAlert:
		if len(message) == 2 && (message[0] == dtlsFatal || message[1] == dtlsCloseNotify) {
			a.end()
		}
	case DTLSHandshake:
		// The client repeats its Finished, because it has missed the server's, RFC 6347 section 4.2.4. It gets the same records, of
		// which it has received none.
		if a.flight != nil && !a.exported {
			_ = a.session.write(a.flight)
		}
	}
}

// send implements looped.
func (a *loopAssociation) send(b []byte, to session.Client, p session.Priority, payload int, sender session.Sender) {
	record, ok := a.seal(dtlsApplicationData, b)
	if !ok {
		sender.Sent(payload, net.ErrClosed)
		return
	}
	a.session.listener.socket.Send(record, to, p, payload, sender)
}

// seal returns the next record, which is valid until the next call. It reports false if nothing may be sent.
func (a *loopAssociation) seal(contentType byte, message []byte) (record []byte, ok bool) {
	if a.ended || a.exported || a.keys.next >= maxDTLSNumber {
		return nil, false
	}
	buffer := &a.stream.link.buffers.record
	*buffer = a.keys.write.seal((*buffer)[:0], contentType, dtlsEpoch<<48|a.keys.next, message)
	a.keys.next++
	return *buffer, true
}

// giveUp ends the association at the end of the round.
func (a *loopAssociation) giveUp() { a.stream.link.loop.AfterRound(a.end) }

// replaced ends the association of a client that has begun another one, and has no keys of this one. While another process may take over
// the association, it ends in resume: otherwise its allocation would end, and be counted, in both.
func (a *loopAssociation) replaced() {
	if a.cut = true; !a.exported {
		a.end()
	}
}

// end ends the association. The handler is told before the client can begin another one from the same address.
func (a *loopAssociation) end() {
	if a.ended {
		return
	}
	l := a.stream.link
	if record, ok := a.seal(dtlsAlert, []byte{dtlsWarning, dtlsCloseNotify}); ok && !a.cut {
		_ = a.session.write(record)
	}
	a.ended = true
	l.expire.remove(a.stream)
	defer func() { // whatever the handler does
		a.session.end()
		l.remove(a.stream)
	}()
	l.gone(a.stream)
}
