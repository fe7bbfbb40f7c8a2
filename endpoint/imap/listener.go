package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"
)

const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
	// rejectTimeout bounds the TLS handshake with a client that is told to come back later, and the telling.
	rejectTimeout = 5 * time.Second
)

// acceptLoop accepts connections until the listener is closed. Other errors pass: too many open files (EMFILE) when
// connections end, a connection reset before it was accepted (ECONNABORTED) at once.
func (e *Endpoint) acceptLoop(listener net.Listener, implicitTLS bool) {
	var delay time.Duration
	for {
		conn, err := listener.Accept()
		switch {
		case err == nil:
			delay = 0
			e.admit(conn, implicitTLS)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			if delay = min(max(2*delay, minAcceptDelay), maxAcceptDelay); delay == minAcceptDelay {
				e.logger.Warn("accepting a connection", "listen", listener.Addr().String(), "err", err)
			}
			time.Sleep(delay)
		}
	}
}

// admit serves conn, or turns it away when there are too many.
func (e *Endpoint) admit(conn net.Conn, implicitTLS bool) {
	client := addrPort(conn.RemoteAddr())
	network := limitedNetwork(client.Addr())
	if text := e.enter(network); text != "" {
		e.turnAway(conn, implicitTLS, text)
		return
	}
	e.serving.Go(func() { e.serve(conn, client, network, implicitTLS) })
}

// addrPort is the address of a TCP peer; IPv4 addresses are in their own form on dual-stack sockets too.
func addrPort(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// limitedNetwork is what limits for one client count: an IPv4 address, or the /64 that one IPv6 customer has at least.
func limitedNetwork(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	network, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // of the invalid address
	}
	return network
}

// enter counts a connection that has not logged in, or returns why it cannot be served.
func (e *Endpoint) enter(network netip.Prefix) (refusal string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.draining:
		return "Server is shutting down"
	case e.connections >= e.config.MaxConnections:
		return "Too many connections: try again later"
	case e.unauthenticated[network] >= e.config.MaxUnauthenticated:
		return "Too many connections from your address: try again later"
	}
	e.connections++
	e.unauthenticated[network]++
	return ""
}

// leaveUnauthenticated counts a connection from network less among those that have not logged in.
func (e *Endpoint) leaveUnauthenticated(network netip.Prefix) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.unauthenticated[network]--; e.unauthenticated[network] <= 0 {
		delete(e.unauthenticated, network)
	}
}

// turnAway says BYE and closes the connection, without waiting for it.
func (e *Endpoint) turnAway(conn net.Conn, implicitTLS bool, text string) {
	if allowed, suppressed := e.outage.allow(time.Now()); allowed {
		e.logger.Warn("connection refused", "client", conn.RemoteAddr().String(), "err", text, "suppressed", suppressed)
	}
	select {
	case e.rejecting <- struct{}{}:
	default:
		conn.Close()
		return
	}
	e.serving.Go(func() {
		defer func() { <-e.rejecting }()
		defer conn.Close()
		client := newClientConn(conn, rejectTimeout)
		if implicitTLS {
			tlsConn, err := e.handshake(conn, rejectTimeout)
			if err != nil {
				return
			}
			client.replace(tlsConn)
		}
		client.sayBye("[UNAVAILABLE] " + text)
	})
}

// handshake does the server's side of TLS on conn.
func (e *Endpoint) handshake(conn net.Conn, timeout time.Duration) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(e.ctx, timeout)
	defer cancel()
	tlsConn := tls.Server(conn, e.tlsConfig)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return tlsConn, nil
}
