package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv"
)

// alpn is the protocol of TURN over TLS and DTLS, RFC 7443 section 6. Clients that send no ALPN are served too.
const alpn = "stun.turn"

// carrier returns the transport protocol of a scheme, and whether the scheme is encrypted.
func carrier(scheme string) (network string, encrypted bool) {
	switch scheme {
	case "udp", "dtls":
		return "udp", scheme == "dtls"
	default:
		return "tcp", scheme == "tls"
	}
}

// sharesSocket reports whether one socket serves a and b, as with udp:// and dtls://, with tcp:// and tls://, and with the unspecified
// addresses of both families.
func sharesSocket(a, b listen.Addr) bool {
	networkA, _ := carrier(a.Scheme)
	networkB, _ := carrier(b.Scheme)
	return networkA == networkB && a.SameSocket(b)
}

// Socket is a listening socket of an endpoint, of which one of Packets, Streams and shared is set.
type Socket struct {
	Address          listen.Addr    // the first address that it serves
	Packets          net.PacketConn // for udp and dtls
	Streams          net.Listener   // for tcp and tls, unless the port is shared
	shared           *shared.Port   // with other endpoints; nil if it is not
	plain, encrypted bool           // the kinds of clients that it serves
	alone            error          // why there is only one for all workers, although there should be one for each
}

// opened reports whether the socket is open.
func (s Socket) opened() bool { return s.Packets != nil || s.Streams != nil || s.shared != nil }

// Close closes the socket, if it is open.
func (s Socket) Close() error {
	switch {
	case s.Packets != nil:
		return s.Packets.Close()
	case s.Streams != nil:
		return s.Streams.Close()
	}
	return nil
}

// sockets returns the sockets that the endpoint needs, not opened yet.
func (c *Config) sockets() (sockets []Socket) {
	for i, address := range c.Listen {
		shares := func(other listen.Addr) bool { return sharesSocket(address, other) }
		if slices.ContainsFunc(c.Listen[:i], shares) {
			continue
		}
		s := Socket{Address: address, shared: c.Shared.At(address)}
		for _, other := range c.Listen {
			if shares(other) {
				_, encrypted := carrier(other.Scheme)
				s.plain, s.encrypted = s.plain || !encrypted, s.encrypted || encrypted
			}
		}
		sockets = append(sockets, s)
	}
	return sockets
}

// Open binds the sockets for all addresses of c. An endpoint that is not given them by NewOn binds its own. For a UDP address,
// there is a socket for each worker, if the system can distribute its clients, or there are as many as c.Sockets has.
func Open(ctx context.Context, c Config) ([]Socket, error) { return open(ctx, c, reusePort) }

func open(ctx context.Context, c Config, reusePort func(fd int) error) ([]Socket, error) {
	sockets, others, err := c.takeSockets()
	if err != nil {
		return nil, err
	}
	for i := range sockets {
		s := &sockets[i]
		if s.opened() {
			continue
		}
		var err error
		if network, _ := carrier(s.Address.Scheme); network == "udp" {
			s.Packets, err = bindUDP(s.Address.HostPort(), nil)
		} else {
			s.Streams, err = listenTCP(ctx, s.Address.HostPort())
		}
		if err != nil {
			err = listen.Error(s.Address, c.ListenRanges[slices.Index(c.Listen, s.Address)], err)
			return nil, errors.Join(err, closeAll(sockets), closeAll(others))
		}
		more, err := s.multiply(c.WorkerCount()-1, reusePort)
		if others = append(others, more...); err != nil {
			err = fmt.Errorf("listen on %v for each worker: %w", s.Address, err)
			return nil, errors.Join(err, closeAll(sockets), closeAll(others))
		}
	}
	return append(sockets, others...), nil
}

// WorkerCount returns the number of workers that serve the endpoint, at least one.
func (c *Config) WorkerCount() int {
	switch {
	case c.Engine != Mailturn || !canMultiply:
		return 1
	case c.Workers == 0:
		return turnsrv.DefaultWorkers()
	}
	return c.Workers
}

func closeAll(sockets []Socket) error {
	var errs []error
	for _, s := range sockets {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// serve returns a function that serves a socket with the engine until the socket is closed.
func (e *Endpoint) serve(engine Engine, s Socket) func() error {
	var config *tls.Config
	if s.encrypted {
		config = e.certs.Config(alpn)
	}
	switch {
	case s.Packets != nil && s.encrypted:
		return func() error { return engine.(dtlsServer).ServeDTLS(s.Packets, config, s.plain) }
	case s.Packets != nil:
		return func() error { return engine.ServePacket(s.Packets) }
	}
	streams, proxies := s.Streams, e.config.ProxyProtocol
	if s.shared != nil {
		streams, proxies = e.join(s, config), nil // the port has read the header
	}
	if s.encrypted || len(proxies) > 0 {
		streams = &streamListener{Listener: streams, config: config, plain: s.plain, proxies: proxies, refused: e.proxyRefused}
	}
	return func() error { return engine.ServeStream(streams) }
}

// join returns the listener for the endpoint's connections of a shared port.
func (e *Endpoint) join(s Socket, config *tls.Config) net.Listener {
	return tcpListener{s.shared.Listen(shared.Member{
		Protocol: shared.TURN, Plain: s.plain,
		Certificates: func() *certs.Store { return e.certs },
		TLS:          func() *tls.Config { return config },
	})}
}

// proxyRefused logs a connection from a proxy that does not begin with a header: the proxy may be misconfigured.
func (e *Endpoint) proxyRefused(proxy netip.Addr, err error) {
	e.refusals.Log(e.logger, slog.LevelWarn, "connection from a proxy refused", "client", proxy, "err", err)
}

// ReceiveBuffer is the receive buffer requested for UDP sockets, in bytes: the media of hundreds of calls during the tenth of a
// second in which a busy machine may not read it. The system grants what net.core.rmem_max allows.
const ReceiveBuffer = 4 << 20

// SendBuffer is the send buffer requested for the same sockets, in bytes: packets to hosts of the server's own network that have
// vanished can occupy 208 KiB, all that Linux grants by default. The system grants what net.core.wmem_max allows.
const SendBuffer = 1 << 20

// maxUnsent is how many unsent bytes the system accepts for a TCP connection, so that a client that reads little occupies some
// hundred kilobytes, and not the four megabytes that net.ipv4.tcp_wmem allows. Media that waits that long is useless.
const maxUnsent = 128 << 10

// tcpListener limits the unsent bytes of its connections, which do not inherit the limit from a listener with Multipath TCP, the
// default of package net.
type tcpListener struct{ net.Listener }

// SetDeadline makes Accept return, as that of *net.TCPListener does.
func (l tcpListener) SetDeadline(t time.Time) error {
	return l.Listener.(interface{ SetDeadline(time.Time) error }).SetDeadline(t)
}

// Accept implements net.Listener.
func (l tcpListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if raw, ok := conn.(syscall.Conn); err == nil && ok {
		limitUnsent(raw)
	}
	return conn, err
}

func listenTCP(ctx context.Context, hostPort string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", hostPort)
	if err != nil {
		return nil, err
	}
	return tcpListener{listener}, nil
}

// bindUDP binds a socket. control, if not nil, is called before that: see net.ListenConfig.
func bindUDP(hostPort string, control func(network, address string, c syscall.RawConn) error) (net.PacketConn, error) {
	conn, err := (&net.ListenConfig{Control: control}).ListenPacket(context.Background(), "udp", hostPort)
	if err != nil {
		return nil, err
	}
	udp := conn.(*net.UDPConn)
	if err := errors.Join(udp.SetReadBuffer(ReceiveBuffer), udp.SetWriteBuffer(SendBuffer)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
