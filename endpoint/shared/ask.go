package shared

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv"
)

// Bounds of the time for which a client without ALPN may say nothing before it counts as an IMAP client, which waits for a greeting. In
// between, it is four round trips.
const (
	minSilence = 500 * time.Millisecond
	maxSilence = 3 * time.Second
)

// ask performs the handshake with a client that has not said what it speaks, and finds that out. It reports whether an endpoint has
// taken the connection.
func (p *Port) ask(conn *Conn, candidates []*member) bool {
	secured, roundTrip, err := p.handshake(conn, candidates[0].TLS())
	if err != nil {
		p.counters.refused[badHandshake].Add(1)
		return false
	}
	silence := helloTimeout
	waits := slices.IndexFunc(candidates, func(m *member) bool { return m.Protocol == IMAP })
	if waits >= 0 {
		silence = min(max(4*roundTrip, minSilence), maxSilence)
	}
	protocol, early, err := hear(secured.Conn, silence)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && waits >= 0:
		protocol = IMAP
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.counters.refused[silent].Add(1)
		return false
	case err != nil:
		p.counters.refused[badHandshake].Add(1)
		return false
	}
	i := slices.IndexFunc(candidates, func(m *member) bool { return m.Protocol == protocol })
	if i < 0 {
		p.counters.refused[unintelligible].Add(1)
		return false
	}
	secured.early = early
	conn.secured = secured
	conn.origin.TLS = secured.ConnectionState().Version
	return p.deliver(candidates[i], conn)
}

// handshake performs the server's side of TLS. roundTrip is how long the client took to answer, at least.
func (p *Port) handshake(conn *Conn, config *tls.Config) (secured *Secured, roundTrip time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), helloTimeout)
	defer cancel()
	under := turnsrv.NewConn(conn)
	secured = &Secured{Conn: tls.Server(under, config), under: under}
	begun := time.Now()
	err = p.handshakes.Perform(ctx, secured.Conn, secured.Conn.HandshakeContext)
	return secured, time.Since(begun), err
}

// hear waits for the first bytes of a client, and tells what it speaks. Without any within the limit, the error is
// os.ErrDeadlineExceeded.
func hear(conn *tls.Conn, limit time.Duration) (protocol Protocol, early []byte, err error) {
	defer conn.SetReadDeadline(time.Time{})
	conn.SetReadDeadline(time.Now().Add(limit))
	early = make([]byte, 0, maxFirst)
	for {
		n, err := conn.Read(early[len(early):cap(early)])
		if early = early[:len(early)+n]; err != nil {
			return 0, early, err
		}
		if protocol, known := recognize(early); known {
			return protocol, early, nil
		}
	}
}

// answer performs a handshake with which an authority checks that a name is ours, after which it says nothing.
func (p *Port) answer(conn *Conn, config *tls.Config) {
	if secured, _, err := p.handshake(conn, config); err == nil {
		p.counters.validated.Add(1)
		_ = secured.Close()
	}
}
