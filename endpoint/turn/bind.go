package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv"
)

// alpn is the protocol of TURN over TLS and DTLS, RFC 7443 section 6. Clients that send no ALPN are served too.
const alpn = "stun.turn"

// socket is one bound socket: packets is set for UDP and DTLS, streams for TCP and TLS.
type socket struct {
	packets net.PacketConn
	dtls    *tls.Config // nil without DTLS
	plain   bool        // UDP without DTLS too
	streams net.Listener
}

// serve has server serve the socket.
func (s socket) serve(server *turnsrv.Server) error {
	switch {
	case s.streams != nil:
		return server.ServeStream(s.streams)
	case s.dtls != nil:
		return server.ServeDTLS(s.packets, s.dtls, s.plain)
	default:
		return server.ServePacket(s.packets)
	}
}

func (s socket) Close() error {
	if s.packets != nil {
		return s.packets.Close()
	}
	return s.streams.Close()
}

// carrier returns the protocol under a scheme, and whether the scheme is the encrypted one of the two that it may carry.
func carrier(scheme string) (network string, encrypted bool) {
	switch scheme {
	case "udp", "dtls":
		return "udp", scheme == "dtls"
	default:
		return "tcp", scheme == "tls"
	}
}

// sharesSocket reports whether a socket for a is one for b too, as one is for udp:// and dtls://, or for tcp:// and tls://.
func sharesSocket(a, b listen.Addr) bool {
	networkA, _ := carrier(a.Scheme)
	networkB, _ := carrier(b.Scheme)
	return networkA == networkB && a.Host == b.Host && a.Port == b.Port
}

// bind opens the sockets for all addresses.
func (e *Endpoint) bind(ctx context.Context) error {
	for i, address := range e.config.Listen {
		shares := func(other listen.Addr) bool { return sharesSocket(address, other) }
		if slices.ContainsFunc(e.config.Listen[:i], shares) {
			continue
		}
		var plain, encrypted bool
		for _, other := range e.config.Listen {
			if shares(other) {
				_, isEncrypted := carrier(other.Scheme)
				plain, encrypted = plain || !isEncrypted, encrypted || isEncrypted
			}
		}
		var config *tls.Config
		if encrypted {
			config = e.certs.Config(alpn)
		}
		s, err := e.openSocket(ctx, address, config, plain)
		if err != nil {
			return listen.Error(address, e.config.ListenRanges[i], err)
		}
		e.sockets = append(e.sockets, s)
	}
	for _, address := range e.config.Listen {
		e.logger.Info("listening", "listen", address)
	}
	return nil
}

// openSocket binds one socket, for clients that encrypt if there is a config, and for those that do not if plain is true.
func (e *Endpoint) openSocket(ctx context.Context, address listen.Addr, config *tls.Config, plain bool) (s socket, err error) {
	network, _ := carrier(address.Scheme)
	network += e.family(address)
	if address.Scheme == "udp" || address.Scheme == "dtls" {
		s.dtls, s.plain = config, plain
		s.packets, err = listenUDP(network, address.HostPort())
		return s, err
	}
	if s.streams, err = listenTCP(ctx, network, address.HostPort()); err != nil {
		return s, err
	}
	if proxies := e.config.ProxyProtocol; config != nil || len(proxies) > 0 {
		s.streams = &streamListener{Listener: s.streams, config: config, plain: plain, proxies: proxies, refused: e.proxyRefused}
	}
	return s, nil
}

// proxyRefused tells the operator of a connection from a proxy that has not begun with a header: it may be set up without.
func (e *Endpoint) proxyRefused(proxy netip.Addr, err error) {
	e.refusals.Log(e.logger, slog.LevelWarn, "connection from a proxy refused", "client", proxy, "err", err)
}

// family returns "4" or "6" for an address that stands for every one of its family while those of the other family are
// listened on at the same port by an address of their own, and "" otherwise. net.Listen takes both 0.0.0.0 and :: for all
// addresses of both families, so that the second of the two would find its port taken.
func (e *Endpoint) family(address listen.Addr) string {
	own, twin := "4", address
	switch address.Host {
	case "0.0.0.0":
		twin.Host = "::"
	case "::":
		own, twin.Host = "6", "0.0.0.0"
	default:
		return ""
	}
	if address.Port == 0 || !slices.ContainsFunc(e.config.Listen, func(a listen.Addr) bool { return sharesSocket(a, twin) }) {
		return ""
	}
	return own
}

// receiveBuffer is asked for on UDP sockets, in bytes: the media of hundreds of calls for the tenth of a second in which a
// busy machine may not come to read it. The system grants what net.core.rmem_max allows.
const receiveBuffer = 4 << 20

// sendBuffer is asked for on the same sockets, in bytes: more than what hosts of the server's own network that have vanished take
// up, 208 KiB each, which is all that Linux gives by default. The system grants what net.core.wmem_max allows.
const sendBuffer = 1 << 20

// maxUnsent is how many bytes the system takes for a TCP connection beyond what is on its way, so that a client that reads little
// holds some hundred kilobytes there, and not the four megabytes that net.ipv4.tcp_wmem lets a connection have. Media that waits
// for so long is of no use.
const maxUnsent = 128 << 10

// tcpListener has its connections hold little for clients that do not read. They do not inherit that from a listener of
// Multipath TCP, as package net makes them.
type tcpListener struct{ net.Listener }

// Accept implements net.Listener.
func (l tcpListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if raw, ok := conn.(syscall.Conn); err == nil && ok {
		limitUnsent(raw)
	}
	return conn, err
}

func listenTCP(ctx context.Context, network, hostPort string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, network, hostPort)
	if err != nil {
		return nil, err
	}
	return tcpListener{listener}, nil
}

func listenUDP(network, hostPort string) (net.PacketConn, error) {
	conn, err := net.ListenPacket(network, hostPort)
	if err != nil {
		return nil, err
	}
	udp := conn.(*net.UDPConn)
	if err := errors.Join(udp.SetReadBuffer(receiveBuffer), udp.SetWriteBuffer(sendBuffer)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (e *Endpoint) closeSockets() error {
	var errs []error
	for _, s := range e.sockets {
		errs = append(errs, s.Close())
	}
	e.sockets = nil
	return errors.Join(errs...)
}
