package shared

import (
	"crypto/tls"
	"net"
	"os"
	"sync"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

// Member is an endpoint at a port. Its functions are called concurrently.
type Member struct {
	Protocol Protocol
	// Plain is true if the endpoint also serves TURN without TLS at the port. It then tells the two apart itself.
	Plain bool
	// Certificates returns the certificates for the server names of the endpoint, and TLS the configuration for a handshake.
	Certificates func() *certs.Store
	TLS          func() *tls.Config
}

// member is the listener of a Member.
type member struct {
	Member
	port  *Port
	queue chan *Conn // unbuffered

	closed    chan struct{}
	closeOnce sync.Once

	mu   sync.Mutex    // guards what follows
	stop chan struct{} // closed while Accept is to return: see SetDeadline
}

func newMember(p *Port, m Member) *member {
	return &member{Member: m, port: p, queue: make(chan *Conn), closed: make(chan struct{}), stop: make(chan struct{})}
}

// Accept returns a *Conn for the endpoint. From then on, no other connection can displace it.
func (m *member) Accept() (net.Conn, error) {
	for {
		conn, err := m.next()
		if err != nil {
			return nil, err
		}
		if m.port.pending.leave(conn.Conn) {
			return conn, nil
		}
	}
}

// next returns the next connection for the endpoint.
func (m *member) next() (*Conn, error) {
	m.mu.Lock()
	stop := m.stop
	m.mu.Unlock()
	select { // these come first
	case <-stop:
		return nil, os.ErrDeadlineExceeded
	case <-m.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-m.queue:
		return conn, nil
	case <-stop:
		return nil, os.ErrDeadlineExceeded
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

// SetDeadline makes Accept return os.ErrDeadlineExceeded at once if t is not zero, and wait again if it is: see
// turnsrv.Server.Suspend. Other deadlines are not supported.
func (m *member) SetDeadline(t time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	stopped := false
	select {
	case <-m.stop:
		stopped = true
	default:
	}
	switch {
	case t.IsZero() && stopped:
		m.stop = make(chan struct{})
	case !t.IsZero() && !stopped:
		close(m.stop)
	}
	return nil
}

// Close makes the port close the connections for this endpoint.
func (m *member) Close() error {
	err := net.ErrClosed
	m.closeOnce.Do(func() {
		close(m.closed)
		err = nil
	})
	return err
}

// Addr returns the address of the socket.
func (m *member) Addr() net.Addr { return m.port.Addr() }

// deliver passes conn to the endpoint, and reports whether it took it before the limit or the end of the port.
func (m *member) deliver(conn *Conn, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case m.queue <- conn:
		return true
	case <-m.closed:
	case <-m.port.ended:
	case <-timer.C:
	}
	return false
}
