// Package turn is the TURN endpoint: it decodes its configuration, opens the UDP, TCP and TLS sockets, and hands them to
// turnsrv, which speaks the protocol.
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
	"sync"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// alpn is the protocol of TURN over TLS, RFC 7443 section 6. Clients that send no ALPN are served too.
const alpn = "stun.turn"

// Endpoint is a TURN endpoint. Its methods are not safe for concurrent use.
type Endpoint struct {
	config Config
	logger *slog.Logger
	certs  *certs.Store // nil without TLS

	secrets   *secrets
	server    *turnsrv.Server
	allocator *relay.Allocator
	addresses []relay.Address
	sockets   []socket
	serving   sync.WaitGroup
}

// socket is one bound socket: packets is set for UDP, streams for TCP and TLS.
type socket struct {
	packets net.PacketConn
	streams net.Listener
}

func (s socket) Close() error {
	if s.packets != nil {
		return s.packets.Close()
	}
	return s.streams.Close()
}

// New makes an endpoint of a decoded configuration, which has to have secrets, and certificates if it listens with TLS. It
// reads the certificates and opens no socket.
func New(c Config, logger *slog.Logger) (*Endpoint, error) {
	e := &Endpoint{config: c, logger: logger, secrets: new(secrets)}
	verifier, err := newVerifier(c)
	if err != nil {
		return nil, err
	}
	e.secrets.verifier.Store(verifier)
	if len(c.Ports("tls")) > 0 {
		store, err := certs.Load(c.TLS, logger)
		if err != nil {
			return nil, err
		}
		e.certs = store
	}
	return e, nil
}

// Start binds the sockets and serves on them until Shutdown.
func (e *Endpoint) Start(context.Context) error {
	addresses, err := relayAddresses(e.config)
	if err != nil {
		return err
	}
	policy, err := peerPolicy(e.config, addresses)
	if err != nil {
		return err
	}
	e.announce(addresses, policy)
	allocator, err := relay.New(relay.Config{
		Addresses: addresses, MinPort: e.config.MinPort, MaxPort: e.config.MaxPort, Peers: policy,
	})
	if err != nil {
		return err
	}
	server, err := turnsrv.New(e.serverConfig(allocator))
	if err != nil {
		return errors.Join(err, allocator.Close())
	}
	if err := e.bind(); err != nil {
		return errors.Join(err, e.closeSockets(), server.Close(), allocator.Close())
	}
	e.server, e.allocator, e.addresses = server, allocator, addresses
	for _, s := range e.sockets {
		e.serving.Go(func() {
			var err error
			if s.packets != nil {
				err = server.ServePacket(s.packets)
			} else {
				err = server.ServeStream(s.streams)
			}
			if err != nil && !errors.Is(err, turnsrv.ErrServerClosed) {
				e.logger.Error("listener ended", "err", err)
			}
		})
	}
	return nil
}

// serverConfig is what the configuration says about the protocol.
func (e *Endpoint) serverConfig(allocator *relay.Allocator) turnsrv.Config {
	c := &e.config
	return turnsrv.Config{
		Realm:               c.Realm,
		Authenticator:       e.secrets,
		Relay:               allocator,
		DefaultFamily:       c.DefaultFamily,
		MaxLifetime:         c.MaxLifetime,
		NonceLifetime:       c.NonceLifetime,
		ExpiredGrace:        limit(c.ExpiredGrace),
		Quotas:              c.Quotas,
		UnauthenticatedRate: limit(c.UnauthenticatedRate),
		MaxGuesses:          limit(c.MaxGuesses),
		SilentPeerBytes:     limit(c.SilentPeerBytes),
		Software:            c.Software,
		Logger:              e.logger,
	}
}

// peerPolicy says which peers may be reached.
func peerPolicy(c Config, addresses []relay.Address) (*peer.Policy, error) {
	own, err := peer.LocalAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	for _, address := range addresses {
		own = append(own, address.Advertise)
	}
	return peer.New(peer.Rules{Allow: c.PeersAllow, Deny: c.PeersDeny, Own: own}), nil
}

// announce tells the operator where relayed addresses are, and what may be wrong with them.
func (e *Endpoint) announce(addresses []relay.Address, policy *peer.Policy) {
	for _, address := range addresses {
		e.logger.Info("relay", "relay_ip", address.Advertise, "relay_bind", address.Bind,
			"min_port", e.config.MinPort, "max_port", e.config.MaxPort, "realm", e.config.Realm)
		if address.Advertise.IsPrivate() {
			e.logger.Warn("peers on the internet cannot reach the relay: set relay_ip to the public address", "relay_ip", address.Advertise)
		}
	}
	if _, ok := policy.CheckAddr(netip.AddrFrom4([4]byte{127, 0, 0, 1})); ok {
		e.logger.Warn("the relay reaches loopback addresses of this machine, because peers allows them")
	}
}

// limit is a configured value as turnsrv has it, where zero stands for the default and less for none.
func limit[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// bind opens a socket for each address, one for tcp:// and tls:// together where they are the same.
func (e *Endpoint) bind() error {
	var done []listen.Addr
	for _, address := range e.config.Listen {
		if slices.Contains(done, address) {
			continue
		}
		done = append(done, address)
		var s socket
		var err error
		switch address.Scheme {
		case "udp":
			s.packets, err = listenUDP("udp"+e.family(address), address)
		case "tcp", "tls":
			s.streams, err = net.Listen("tcp"+e.family(address), address.HostPort())
		}
		if err != nil {
			return bindError(address, err)
		}
		if address.Scheme != "udp" {
			other := address
			other.Scheme = map[string]string{"tcp": "tls", "tls": "tcp"}[address.Scheme]
			switch {
			case slices.Contains(e.config.Listen, other):
				s.streams = detectListener{s.streams, e.certs.Config(alpn)}
				done = append(done, other)
			case address.Scheme == "tls":
				s.streams = tls.NewListener(s.streams, e.certs.Config(alpn))
			}
		}
		e.sockets = append(e.sockets, s)
		e.logger.Info("listening", "listen", address)
	}
	return nil
}

// family returns "4" or "6" for an address that stands for every one of its family while those of the other family are
// listened on at the same port by an address of their own, and "" otherwise. net.Listen takes both 0.0.0.0 and :: for all
// addresses of both families, so that the second of the two would find its port taken.
func (e *Endpoint) family(address listen.Addr) string {
	own, other := "4", "::"
	switch address.Host {
	case "0.0.0.0":
	case "::":
		own, other = "6", "0.0.0.0"
	default:
		return ""
	}
	sameSocket := func(a, b string) bool { return (a == "udp") == (b == "udp") }
	for _, a := range e.config.Listen {
		if a.Host == other && a.Port == address.Port && a.Port != 0 && sameSocket(a.Scheme, address.Scheme) {
			return own
		}
	}
	return ""
}

// receiveBuffer is asked for on UDP sockets, in bytes: the media of hundreds of calls for the tenth of a second in which a
// busy machine may not come to read it. The system grants what net.core.rmem_max allows.
const receiveBuffer = 4 << 20

func listenUDP(network string, address listen.Addr) (net.PacketConn, error) {
	conn, err := net.ListenPacket(network, address.HostPort())
	if err != nil {
		return nil, err
	}
	if err := conn.(*net.UDPConn).SetReadBuffer(receiveBuffer); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// bindError says what can be done about a socket that cannot be bound.
func bindError(address listen.Addr, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on %v: the port is in use: stop the other program, or listen on another port: %w", address, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen on %v: ports below 1024 need root or CAP_NET_BIND_SERVICE: %w", address, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen on %v: this machine has no such address: %w", address, err)
	}
	return fmt.Errorf("listen on %v: %w", address, err)
}

func (e *Endpoint) closeSockets() error {
	var errs []error
	for _, s := range e.sockets {
		errs = append(errs, s.Close())
	}
	e.sockets = nil
	return errors.Join(errs...)
}

// Shutdown refuses new allocations, lets running calls go on for the configured drain_timeout or until ctx is done, and
// then ends them.
func (e *Endpoint) Shutdown(ctx context.Context) error {
	if e.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.config.DrainTimeout)
	defer cancel()
	start := time.Now()
	err := e.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		e.logger.Info("calls cut at the end of the drain", "duration", time.Since(start).Round(time.Millisecond))
		err = nil
	}
	e.serving.Wait()
	return errors.Join(err, e.allocator.Close())
}
