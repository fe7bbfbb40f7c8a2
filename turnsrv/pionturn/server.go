package pionturn

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/pion/turn/v4"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// ErrServerClosed is returned by ServePacket and ServeStream after Close.
var ErrServerClosed = errors.New("pionturn: server closed")

// Server configures pion's server and runs it on any number of sockets. Safe for concurrent use.
type Server struct {
	config Config
	family stun.Family // of relayed addresses
	quota  *quota
	inHand sync.Map // net.Addr to []byte: the messages that pion is processing, by the address that it received with each
	log    pionLog

	mu      sync.Mutex // guards what follows
	closed  bool
	sockets map[io.Closer]struct{} // of Serve methods that have not returned
	relayed map[*relayed]struct{}
	streams map[net.Addr]*stream // connections that pion serves, by the address that identifies them to pion
	served  sync.WaitGroup
}

// New returns a Server without sockets. It returns an error if config is invalid.
func New(config Config) (*Server, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("pionturn: %w", err)
	}
	s := &Server{
		config: config, family: stun.IPv4, quota: newQuota(config.Quotas), log: pionLog{logger: config.Logger},
		sockets: make(map[io.Closer]struct{}), relayed: make(map[*relayed]struct{}), streams: make(map[net.Addr]*stream),
	}
	if !config.Relay.Has(stun.IPv4) {
		s.family = stun.IPv6
	}
	return s, nil
}

// ServerConfig returns a configuration for turn.NewServer without sockets, which the caller adds: see PacketConnConfig and
// ListenerConfig. The caller may replace parts of it, but the EventHandler's OnAllocationCreated and OnAllocationDeleted must
// be called: quotas and time limits on connections depend on them.
func (s *Server) ServerConfig() turn.ServerConfig {
	return turn.ServerConfig{
		Realm:         s.config.Realm,
		AuthHandler:   s.authenticate,
		QuotaHandler:  s.withinQuota,
		LoggerFactory: &s.log,
		EventHandler: turn.EventHandler{
			// OnPermissionCreated remains nil. pion calls it after it has published a permission and before the permission has a
			// timer, which would make the panic of T03 more likely.
			OnAllocationCreated: s.allocationCreated,
			OnAllocationDeleted: s.allocationDeleted,
		},
	}
}

// PacketConnConfig returns the configuration that serves the clients of a UDP socket. It serves them until the socket is closed,
// regardless of other errors.
func (s *Server) PacketConnConfig(conn net.PacketConn) turn.PacketConnConfig {
	return turn.PacketConnConfig{
		PacketConn:            newPacketConn(s, conn),
		RelayAddressGenerator: generator{s},
		PermissionHandler:     s.mayPermit,
	}
}

// ListenerConfig returns the configuration that serves the clients of a TCP listener, or of a listener made by tls.NewListener,
// with the framing and the limits of this package. If connections have the method HandshakeContext of tls.Conn, their addresses are
// read after the handshake.
func (s *Server) ListenerConfig(l net.Listener) turn.ListenerConfig {
	return turn.ListenerConfig{
		Listener:              newListener(s, l),
		RelayAddressGenerator: generator{s},
		PermissionHandler:     s.mayPermit,
	}
}

// ServePacket serves the clients of a UDP socket until Close is called or the socket is closed. It takes ownership of conn and
// closes it. It returns ErrServerClosed after Close.
func (s *Server) ServePacket(conn net.PacketConn) error {
	config := s.ServerConfig()
	packets := s.PacketConnConfig(conn)
	config.PacketConnConfigs = []turn.PacketConnConfig{packets}
	wrapped := packets.PacketConn.(*packetConn)
	return s.serve(config, wrapped, wrapped.closed)
}

// ServeStream serves the clients of a listener until Close is called or the listener is closed: see ListenerConfig. It takes
// ownership of l and closes it. It returns ErrServerClosed after Close.
func (s *Server) ServeStream(l net.Listener) error {
	config := s.ServerConfig()
	streams := s.ListenerConfig(l)
	config.ListenerConfigs = []turn.ListenerConfig{streams}
	wrapped := streams.Listener.(*listener)
	return s.serve(config, wrapped, wrapped.ended)
}

// serve runs pion's server on one socket until ended is closed, which happens when the socket is closed.
func (s *Server) serve(config turn.ServerConfig, socket io.Closer, ended <-chan struct{}) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = socket.Close()
		return ErrServerClosed
	}
	s.sockets[socket] = struct{}{}
	s.served.Add(1)
	s.mu.Unlock()
	defer s.served.Done()
	_, err := turn.NewServer(config)
	if err != nil {
		err = fmt.Errorf("pionturn: %w", err)
	} else {
		<-ended
	}
	_ = socket.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets, socket)
	if s.closed {
		return ErrServerClosed
	}
	return err
}

// Close closes all sockets, connections and relayed addresses, and waits until the Serve methods have returned. It closes the
// relayed addresses of servers that the caller made with turn.NewServer, but not their sockets.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	var open []io.Closer
	for socket := range s.sockets {
		open = append(open, socket)
	}
	for r := range s.relayed {
		open = append(open, r)
	}
	s.mu.Unlock()
	for _, o := range open {
		_ = o.Close()
	}
	s.served.Wait()
	return nil
}

// Allocations returns the number of live allocations.
func (s *Server) Allocations() int { return s.quota.count() }

// allocationCreated is called when pion has made an allocation.
func (s *Server) allocationCreated(client, server net.Addr, _, username, realm string, _ net.Addr, _ int) {
	s.quota.made(tupleOf(client, server))
	s.allocated(client, true)
	s.config.Logger.Debug("allocation made", "client", client.String(), "username", username)
}

// allocationDeleted is called when an allocation of pion has ended.
func (s *Server) allocationDeleted(client, server net.Addr, _, username, _ string) {
	s.quota.ended(tupleOf(client, server))
	s.allocated(client, false)
	s.config.Logger.Debug("allocation ended", "client", client.String(), "username", username)
}

// allocated records whether a client has an allocation in its connection, if it has one.
func (s *Server) allocated(client net.Addr, has bool) {
	s.mu.Lock()
	c := s.streams[client]
	s.mu.Unlock()
	if c != nil {
		c.listener.allocated(c, has)
	}
}

// setStream records the connection of a client. If c is nil, the client no longer has one.
func (s *Server) setStream(client net.Addr, c *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == nil {
		delete(s.streams, client)
	} else {
		s.streams[client] = c
	}
}

// tuple consists of the transport addresses of a client and of the server. The latter imply the transport, because each address of
// a Server serves one transport.
type tuple struct{ client, server netip.AddrPort }

func tupleOf(client, server net.Addr) tuple {
	return tuple{udp.AddrPortOf(client), udp.AddrPortOf(server)}
}
