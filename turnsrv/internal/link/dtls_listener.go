package link

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/pion/dtls/v3"
)

const (
	// maxHandshakes bounds the DTLS handshakes of one socket that are not done: those of clients whose address is unproven, and
	// as many again of clients whose address is proven.
	maxHandshakes = 512
	// maxHellos bounds the handshakes that one socket begins in a second. Each costs 50 µs until its cookie is sent
	// (BenchmarkDTLSFirstHello, mid-2026), which makes a tenth of a core.
	maxHellos = 2000
	// maxNetworkHellos is the share of that which one source network may take, with as many at once.
	maxNetworkHellos = maxHellos / 4
	// MaxPlain is how many bytes one client may have sent before its handshake is done, and in plain text after that. An
	// honest handshake without a client's certificate takes two kilobytes with retransmissions. pion/dtls v3.1.15 would
	// keep two megabytes of fragments.
	MaxPlain = 16 << 10
	// dtlsQueue is how many bytes of packets wait for a session before more are dropped.
	dtlsQueue = 64 << 10
)

// DTLSListener finds the DTLS associations (RFC 6347) among the packets of a UDP socket. It is a listener whose connections
// are of type *dtls.Conn; their handshakes have yet to be made.
//
//	no association ─ first ClientHello ─▶ unproven ─ cookie came back ─▶ proven ─ Finished ─▶ done
//
// pion/dtls sends the HelloVerifyRequest of RFC 6347 section 4.2.1, with a cookie that comes back from real addresses only,
// but keeps state meanwhile, and offers no way to check a cookie before. So their number is bounded, apart for those who are
// proven and those who are not. An unproven address may be anybody's, so that its network says nothing: with too many, the
// oldest one has to go. A flood from spoofed addresses then costs what maxHandshakes and maxHellos allow, and of the clients
// beside it those get through whose first packet is not lost to maxHellos and who answer within a quarter of a second. Of the
// proven ones the oldest of the network that has most has to go, so that whoever leaves handshakes unfinished by the hundred
// displaces his own.
type DTLSListener struct {
	socket   *sharedSocket
	local    net.Addr
	options  []dtls.ServerOption
	counters *count.Counters

	accepted  chan net.Conn
	closeOnce sync.Once
	closed    chan struct{}

	mu            sync.Mutex // guards what follows, and the state of all sessions
	sessions      map[event.FiveTuple]*dtlsSession
	unproven      []*dtlsSession            // the oldest first
	proven        limit.Crowd[*dtlsSession] // whose handshake is not done
	second        int64                     // in Unix time, to which hellos belongs
	hellos        int
	networkHellos *limit.Sources // nil before the first one
}

// newDTLSListener returns a listener on the packets of socket, which stays its owner's. Of config it uses Certificates and
// GetCertificate, and NextProtos: a client that offers only other protocols is refused, one that offers none is not.
func newDTLSListener(socket *sharedSocket, local net.Addr, config *tls.Config, logger *slog.Logger, c *count.Counters) *DTLSListener {
	options := []dtls.ServerOption{
		dtls.WithGetCertificate(func(hello *dtls.ClientHelloInfo) (*tls.Certificate, error) {
			return certificateFor(config, hello.ServerName)
		}),
		dtls.WithLoggerFactory(dtlsLogger{logger}),
		// With ephemeral keys and authenticated encryption, RFC 9325 section 4.2, and nothing else.
		dtls.WithCipherSuites(
			dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			dtls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, dtls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		),
	}
	if len(config.NextProtos) > 0 {
		options = append(options, dtls.WithSupportedProtocols(config.NextProtos...))
	}
	return &DTLSListener{
		socket: socket, local: local, options: options, counters: c,
		accepted: make(chan net.Conn, 2*maxHandshakes), closed: make(chan struct{}),
		sessions: make(map[event.FiveTuple]*dtlsSession),
	}
}

// certificateFor asks a configuration of TLS for a certificate, as a client of DTLS 1.2 with the algorithms of its day.
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

// Close ends Accept. The sessions that were accepted stay their owners'.
func (l *DTLSListener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return nil
}

// take gives a packet to the session that it belongs to, and makes one for the first packet of a client. It does not block,
// does not keep b, and overwrites it.
func (l *DTLSListener) take(b []byte, tuple event.FiveTuple) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sessions[tuple]
	switch {
	case s == nil || s.state == dtlsDone && s.next == nil:
		if isFirstHello(b) {
			// A client that has lost its state begins anew from the same port. Its old session goes on until the new one
			// is proven, RFC 6347 section 4.2.8: anybody could have sent this.
			if s = l.beginLocked(tuple, s); s == nil {
				l.counters.Drop(event.DropDTLS)
				return
			}
		}
	case s.state == dtlsDone && len(b) > dtlsRecordHeaderLen && b[3] == 0 && b[4] == 0:
		s = s.next
	}
	if s != nil {
		b = s.admitLocked(b)
	}
	if s == nil || len(b) == 0 {
		l.counters.Drop(event.DropDTLS)
		return
	}
	s.silence.Hear(time.Now())
	if _, err := s.packets.Write(b, nil); err != nil {
		l.counters.Drop(event.DropQueue)
	}
}

// beginLocked makes a session beside the old one of the same client, if there is one. It returns nil when there are too many
// handshakes in this second.
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
	case l.accepted <- conn:
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

// mayBeginLocked counts one more handshake of a client at addr and reports whether there were not too many in this second, of
// its network or of all.
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

// provenLocked has s count as one whose address is real, and makes room for it.
func (l *DTLSListener) provenLocked(s *dtlsSession) {
	l.finishedLocked(s)
	if l.proven.Len() >= maxHandshakes {
		victim, _ := l.proven.First()
		victim.endLocked()
	}
	l.proven.Add(s, s.tuple.Client.Addr())
}

// finishedLocked takes s out of the handshakes.
func (l *DTLSListener) finishedLocked(s *dtlsSession) {
	if l.proven.Remove(s) {
		return
	}
	if i := slices.Index(l.unproven, s); i >= 0 {
		l.unproven = slices.Delete(l.unproven, i, i+1)
	}
}
