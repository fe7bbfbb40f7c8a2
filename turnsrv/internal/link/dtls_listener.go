package link

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/pion/dtls/v3"
)

const (
	// maxHandshakes limits the incomplete DTLS handshakes of one socket: that many from clients whose address is unproven, and as
	// many from clients whose address is proven.
	maxHandshakes = 512
	// maxHellos limits the handshakes that one socket begins per second. Each takes 50 µs until its cookie is sent
	// (BenchmarkDTLSFirstHello, mid-2026), which is a tenth of a core in total.
	maxHellos = 2000
	// maxNetworkHellos limits the handshakes that one source network can begin per second, and in one burst.
	maxNetworkHellos = maxHellos / 4
	// MaxPlain limits the bytes that one client can send before its handshake is complete, and in plain text after that. An
	// ordinary handshake without a client certificate takes two kilobytes with retransmissions. Without this limit, pion/dtls
	// v3.1.15 would keep two megabytes of fragments.
	MaxPlain = 16 << 10
	// dtlsQueue limits the bytes of packets that wait for a session. Further packets are dropped.
	dtlsQueue = 64 << 10
)

// DTLSListener extracts the DTLS associations (RFC 6347) from the packets of a UDP socket. Its connections have the type
// *dtlsConn; their handshakes have not been performed yet. After the handshake, an event loop serves the association if the socket is
// on one: see loopAssociation. Otherwise pion/dtls does.
//
//	no association ─ first ClientHello ─▶ unproven ─ cookie came back ─▶ proven ─ Finished ─▶ done
//
// pion/dtls sends the HelloVerifyRequest of RFC 6347 section 4.2.1, whose cookie only comes back from genuine addresses.
// However, it keeps state in the meantime and provides no way to verify a cookie statelessly. Therefore the number of
// handshakes is limited, separately for proven and unproven addresses.
//
// An unproven address may be spoofed, so its network is not significant: when there are too many, the oldest handshake is
// ended. The cost of a flood from spoofed addresses is limited by maxHandshakes and maxHellos. During such a flood, a genuine
// client succeeds if its first packet is within maxHellos and it answers within a quarter of a second.
//
// When there are too many proven handshakes, the oldest one of the network with the most is ended. A client that leaves
// hundreds of handshakes incomplete therefore displaces its own.
type DTLSListener struct {
	socket   datagram   // set before the first packet
	loop     *loop.Loop // that of the socket, or nil
	local    net.Addr
	options  []dtls.ServerOption
	log      *slog.Logger
	counters *count.Counters

	accepted  chan net.Conn
	closeOnce sync.Once
	closed    chan struct{}

	mu            sync.Mutex // guards what follows, and the state of all sessions
	sessions      map[event.FiveTuple]*dtlsSession
	unproven      []*dtlsSession            // oldest first
	proven        limit.Crowd[*dtlsSession] // with an incomplete handshake
	second        int64                     // Unix time of the second that hellos counts
	hellos        int
	networkHellos *limit.Sources // nil before the first use
}

// dtlsConn is a connection of a DTLSListener.
type dtlsConn struct {
	*dtls.Conn
	session *dtlsSession
}

// newDTLSListener returns a listener whose socket is bound to local, and served by on unless it is nil. It uses the Certificates,
// GetCertificate and NextProtos of config. A client that offers only other protocols than NextProtos is refused; one that
// offers none is accepted.
func newDTLSListener(
	local net.Addr, config *tls.Config, logger *slog.Logger, on *loop.Loop, c *count.Counters,
) *DTLSListener {
	var suites []dtls.CipherSuiteID
	for _, suite := range dtlsSuites() {
		suites = append(suites, suite.id)
	}
	options := []dtls.ServerOption{
		dtls.WithGetCertificate(func(hello *dtls.ClientHelloInfo) (*tls.Certificate, error) {
			return certificateFor(config, hello.ServerName)
		}),
		dtls.WithLoggerFactory(dtlsLogger{logger}),
		dtls.WithCipherSuites(suites...),
	}
	if len(config.NextProtos) > 0 {
		options = append(options, dtls.WithSupportedProtocols(config.NextProtos...))
	}
	return &DTLSListener{
		local: local, options: options, log: logger, loop: on, counters: c,
		accepted: make(chan net.Conn, 2*maxHandshakes), closed: make(chan struct{}),
		sessions: make(map[event.FiveTuple]*dtlsSession),
	}
}

// certificateFor returns the certificate that config selects for a DTLS 1.2 client.
func certificateFor(config *tls.Config, serverName string) (*tls.Certificate, error) {
	if config.GetCertificate == nil {
		return &config.Certificates[0], nil
	}
	return config.GetCertificate(&tls.ClientHelloInfo{
		ServerName:        serverName,
		SupportedVersions: []uint16{tls.VersionTLS12},
		CipherSuites:      []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:   []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
		SupportedPoints:   []uint8{0},
		SignatureSchemes: []tls.SignatureScheme{
			tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.Ed25519,
			tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PSSWithSHA256,
		},
	})
}

// Accept implements net.Listener.
func (l *DTLSListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.accepted:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (l *DTLSListener) Addr() net.Addr { return l.local }

// Close makes Accept return. The caller of Accept continues to own the sessions.
func (l *DTLSListener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return nil
}

// take passes a packet to its session, and creates a session for the first packet of a client. It does not block, does not
// retain b, and overwrites it. It is called on the goroutine of the loop if there is one.
func (l *DTLSListener) take(b []byte, tuple event.FiveTuple) {
	if a := l.pass(b, tuple); a != nil {
		a.receive(b, time.Now())
	}
}

// pass returns what serves the association that a packet belongs to, or deals with the packet if nothing does yet.
func (l *DTLSListener) pass(b []byte, tuple event.FiveTuple) association {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[tuple]
	switch {
	case s == nil || s.state == dtlsDone && s.next == nil:
		if isFirstHello(b) {
			// A client that has lost its state starts again from the same port. Its old session continues until the new one is proven,
			// RFC 6347 section 4.2.8: the ClientHello may be spoofed.
			if s = l.beginLocked(tuple, s); s == nil {
				l.counters.Drop(event.DropDTLS)
				return nil
			}
		}
	case s.state == dtlsDone && len(b) > dtlsRecordHeaderLen && b[3] == 0 && b[4] == 0:
		s = s.next
	}
	switch {
	case s == nil:
	case s.association != nil:
		return s.association
	case s.state == dtlsDone && l.loop != nil:
		if !s.laterLocked(b) {
			l.counters.Drop(event.DropQueue)
		}
		return nil
	default:
		b = s.admitLocked(b)
	}
	if s == nil || len(b) == 0 {
		l.counters.Drop(event.DropDTLS)
		return nil
	}
	if _, err := s.packets.Write(b, nil); err != nil {
		l.counters.Drop(event.DropQueue)
	}
	return nil
}

// beginLocked creates a session, in addition to the old session of the same client if there is one. It returns nil if too many
// handshakes have begun in this second.
func (l *DTLSListener) beginLocked(tuple event.FiveTuple, old *dtlsSession) *dtlsSession {
	if !l.mayBeginLocked(tuple.Client.Addr(), time.Now()) {
		return nil
	}
	if len(l.unproven) >= maxHandshakes {
		l.unproven[0].endLocked()
	}
	s := newDTLSSession(l, tuple)
	conn, err := dtls.ServerWithOptions(s, net.UDPAddrFromAddrPort(tuple.Client), l.options...)
	if err != nil {
		return nil
	}
	select {
	case l.accepted <- &dtlsConn{conn, s}:
	default:
		return nil
	}
	l.unproven = append(l.unproven, s)
	if old == nil {
		l.sessions[tuple] = s
	} else {
		old.next, s.previous = s, old
	}
	return s
}

// restore returns the session of an association whose handshake another process has performed.
func (l *DTLSListener) restore(tuple event.FiveTuple) (*dtlsSession, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions[tuple] != nil {
		return nil, fmt.Errorf("%w: client %v has two associations", handover.ErrDamaged, tuple.Client)
	}
	s := newDTLSSession(l, tuple)
	s.state = dtlsDone
	s.done.Store(true)
	s.taken.Store(true)
	l.sessions[tuple] = s
	return s, nil
}

// mayBeginLocked counts a new handshake of a client at addr. It reports whether the handshakes of this second are within the
// limits of the client's network and of the socket.
func (l *DTLSListener) mayBeginLocked(addr netip.Addr, now time.Time) bool {
	if l.networkHellos == nil {
		l.networkHellos = limit.NewSources(time.Second/maxNetworkHellos, maxNetworkHellos, now)
	}
	if !l.networkHellos.Take(limit.Network(addr), 1, now) {
		return false
	}
	if second := now.Unix(); second != l.second {
		l.second, l.hellos = second, 0
	}
	l.hellos++
	return l.hellos <= maxHellos
}

// provenLocked records that the address of s is genuine, and makes room for it.
func (l *DTLSListener) provenLocked(s *dtlsSession) {
	l.finishedLocked(s)
	if l.proven.Len() >= maxHandshakes {
		victim, _ := l.proven.First()
		victim.endLocked()
	}
	l.proven.Add(s, s.tuple.Client.Addr())
}

// finishedLocked removes s from the incomplete handshakes.
func (l *DTLSListener) finishedLocked(s *dtlsSession) {
	if l.proven.Remove(s) {
		return
	}
	if i := slices.Index(l.unproven, s); i >= 0 {
		l.unproven = slices.Delete(l.unproven, i, i+1)
	}
}
