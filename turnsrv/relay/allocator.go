// Package relay opens relayed transport addresses (RFC 8656 section 2): UDP sockets in a port range. The address that a socket
// is bound to and the address that is advertised differ behind a NAT.
package relay

import (
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	mathrand "math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// The default port range, as suggested by RFC 8656 section 7.2.
const (
	DefaultMinPort = 49152
	DefaultMaxPort = 65535
)

// ReservationLifetime is the maximum time for which the port after an even port is reserved, RFC 8656 section 7.2. The
// reservation also ends when the even port is closed, so that a client cannot hold more ports than addresses.
const ReservationLifetime = 30 * time.Second

// maxBindAttempts limits the system calls of one Allocate. Ports in use by this allocator are skipped without one.
const maxBindAttempts = 32

// Errors of Allocate.
var (
	ErrFamily = errors.New("no relay address of this family")         // 440
	ErrNoPort = errors.New("no free relay port")                      // 508
	ErrToken  = errors.New("reservation token is unknown or expired") // 508
	ErrClosed = errors.New("relay allocator is closed")               // 508
)

// Address is an address of the relay.
type Address struct {
	// Bind is the address that sockets are bound to. It may be unspecified, such as 0.0.0.0.
	Bind netip.Addr
	// Advertise is the address that clients and peers see. It has the family of Bind. No interface needs to have it.
	Advertise netip.Addr
}

// Config configures an Allocator.
type Config struct {
	// Addresses contains one address, or one of each family.
	Addresses []Address
	// Changing means that Addresses change while it runs: see SetAddresses. Restore then accepts relayed addresses of another process at
	// former addresses.
	Changing bool
	// MinPort and MaxPort are the inclusive port range. If both are zero, they are DefaultMinPort and DefaultMaxPort.
	MinPort, MaxPort uint16
	// Peers is checked for every packet sent. Required.
	Peers *peer.Policy
	// Rest are ports that are not used for a time. Their slices are in ascending order.
	Rest Rest
	// OnUse, if not nil, is called when a port has been bound, and when it is free again. It must not block.
	OnUse func(id stun.Family, port uint16, used bool)
	// Listen opens a socket. If nil, the package opens its own sockets.
	Listen func(network string, addr netip.AddrPort) (Socket, error)
}

// Token identifies a reserved port, RFC 8656 section 18.7.
type Token [8]byte

// Request specifies a relayed transport address.
type Request struct {
	// Family is the address family. It is ignored if Token is not nil.
	Family stun.Family
	// EvenPort requests an even port. ReserveNext also reserves the port above it.
	EvenPort, ReserveNext bool
	// Token, if not nil, claims a reserved port.
	Token *Token
	// Loop is the event loop that reads the address. If it is nil, the address has a goroutine of its own, or is read by
	// Conn.ReadFrom. A reserved port must be claimed for a loop exactly if it was reserved for one.
	Loop *loop.Loop
}

// Allocator opens relayed transport addresses. Safe for concurrent use.
type Allocator struct {
	peers            atomic.Pointer[peer.Policy]
	minPort, maxPort int
	current          atomic.Pointer[addresses]
	changing         bool // Config.Changing
	custom           bool // sockets are opened by Config.Listen
	listen           func(network string, addr netip.AddrPort) (Socket, error)
	onUse            func(id stun.Family, port uint16, used bool)
	rest             Rest

	mu       sync.Mutex
	closed   bool
	reserved map[Token]*reservation
}

type reservation struct {
	family *family
	port   uint16
	socket socket
	looped bool // the socket was opened for an event loop
	until  time.Time
	timer  *time.Timer
}

// New returns an Allocator. It opens no sockets. It returns an error if config is invalid.
func New(config Config) (*Allocator, error) {
	if config.MinPort == 0 && config.MaxPort == 0 {
		config.MinPort, config.MaxPort = DefaultMinPort, DefaultMaxPort
	}
	switch {
	case config.MinPort == 0 || config.MinPort > config.MaxPort:
		return nil, fmt.Errorf("relay port range %d-%d is invalid", config.MinPort, config.MaxPort)
	case config.Peers == nil:
		return nil, errors.New("peer policy is missing")
	}
	a := &Allocator{
		minPort: int(config.MinPort), maxPort: int(config.MaxPort),
		reserved: make(map[Token]*reservation), rest: config.Rest, changing: config.Changing,
	}
	if config.OnUse == nil {
		config.OnUse = func(stun.Family, uint16, bool) {}
	}
	a.peers.Store(config.Peers)
	if a.custom = config.Listen != nil; !a.custom {
		config.Listen = listenUDP
	}
	a.onUse, a.listen = config.OnUse, config.Listen
	a.current.Store(new(addresses))
	if err := a.SetAddresses(config.Addresses); err != nil {
		return nil, err
	}
	return a, nil
}

// CanLoop reports whether addresses can be opened for an event loop. They cannot if Config.Listen opens the sockets.
func (a *Allocator) CanLoop() bool { return !a.custom }

// Has reports whether the relay has an address of the family.
func (a *Allocator) Has(id stun.Family) bool { return a.family(id) != nil }

// Allocate opens a relayed transport address. The caller must call Start on it. If Request.ReserveNext is set, the token
// identifies the reserved port above it. The error is ErrFamily, ErrNoPort, ErrToken, ErrClosed or a system error, which is
// equivalent to ErrNoPort.
func (a *Allocator) Allocate(request Request) (*Conn, Token, error) {
	if a.isClosed() {
		return nil, Token{}, ErrClosed
	}
	if request.Token != nil {
		conn, err := a.claim(*request.Token, request.Loop)
		return conn, Token{}, err
	}
	f := a.family(request.Family)
	if f == nil {
		return nil, Token{}, ErrFamily
	}
	socket, next, port, err := a.bind(f, request)
	if err != nil {
		return nil, Token{}, err
	}
	var token Token
	if next != nil {
		if token, err = a.reserve(f, port+1, next, request.Loop != nil); err != nil {
			f.release(port)
			return nil, Token{}, errors.Join(err, socket.close())
		}
	}
	return &Conn{family: f, port: port, socket: socket, loop: request.Loop, reserved: token}, token, nil
}

func (a *Allocator) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}

// bind binds a port, if possible one that does not rest. With ReserveNext it binds both the port and the one above it, or neither.
func (a *Allocator) bind(f *family, request Request) (socket, next socket, port uint16, err error) {
	now := time.Now()
	resting := a.rest.resting(f.id, now)
	socket, next, port, err = a.bindUnless(resting, f, request)
	if resting != nil && errors.Is(err, ErrNoPort) && !now.Before(a.rest.Never) {
		return a.bindUnless(nil, f, request)
	}
	return socket, next, port, err
}

// bindUnless tries ports in random order. It omits those for which resting, if not nil, returns true.
func (a *Allocator) bindUnless(resting func(uint16) bool, f *family, request Request) (socket, next socket, port uint16, err error) {
	attempts := 0
	for candidate := range a.candidates() {
		if request.EvenPort && (candidate%2 != 0 || request.ReserveNext && int(candidate)+1 > a.maxPort) {
			continue
		}
		if resting != nil && (resting(candidate) || request.ReserveNext && resting(candidate+1)) {
			continue
		}
		if !f.take(candidate) {
			continue
		}
		if attempts++; attempts > maxBindAttempts {
			f.release(candidate)
			break
		}
		if socket, err = f.bind(candidate, request.Loop); err == nil {
			if !request.ReserveNext {
				return socket, nil, candidate, nil
			}
			if f.take(candidate + 1) {
				if next, err = f.bind(candidate+1, request.Loop); err == nil {
					return socket, next, candidate, nil
				}
				f.release(candidate + 1)
			}
			_ = socket.close()
		}
		f.release(candidate)
		// Another program uses the port, or this one may not bind it. Other errors, such as a lack of descriptors, would also occur
		// for the next port.
		if err != nil && !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
			return nil, nil, 0, fmt.Errorf("bind relay address %v: %w", netip.AddrPortFrom(f.Bind, candidate), err)
		}
	}
	return nil, nil, 0, ErrNoPort
}

// candidates yields every port of the range once, in an unpredictable order, as RFC 8656 section 7.2 requires.
func (a *Allocator) candidates() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		size := a.maxPort - a.minPort + 1
		at, stride := mathrand.IntN(size), 1+mathrand.IntN(size)
		for gcd(stride, size) != 1 {
			stride = 1 + mathrand.IntN(size)
		}
		for range size {
			if !yield(uint16(a.minPort + at)) {
				return
			}
			at = (at + stride) % size
		}
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// reserve reserves a bound port for the holder of the returned token.
func (a *Allocator) reserve(f *family, port uint16, socket socket, looped bool) (Token, error) {
	var token Token
	_, _ = rand.Read(token[:]) // never fails
	held := &reservation{family: f, port: port, socket: socket, looped: looped}
	return token, a.hold(token, held, ReservationLifetime)
}

// hold keeps a reservation for its lifetime, or drops it if the allocator is closed.
func (a *Allocator) hold(token Token, held *reservation, lifetime time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		held.drop()
		return ErrClosed
	}
	a.reserved[token] = held
	held.until = time.Now().Add(lifetime)
	held.timer = time.AfterFunc(lifetime, func() { a.dropReservation(token) })
	return nil
}

// unreserve removes and returns a reservation, or returns nil if it has been removed already.
func (a *Allocator) unreserve(token Token) *reservation {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := a.reserved[token]
	delete(a.reserved, token)
	return held
}

// dropReservation closes the port reserved for token, if there is one.
func (a *Allocator) dropReservation(token Token) {
	if held := a.unreserve(token); held != nil {
		held.timer.Stop()
		held.drop()
	}
}

func (r *reservation) drop() {
	_ = r.socket.close()
	r.family.release(r.port)
}

func (a *Allocator) claim(token Token, l *loop.Loop) (*Conn, error) {
	held := a.unreserve(token)
	if held == nil {
		return nil, ErrToken
	}
	held.timer.Stop()
	if held.looped != (l != nil) {
		held.drop()
		return nil, ErrToken
	}
	return &Conn{family: held.family, port: held.port, socket: held.socket, loop: l}, nil
}

// SetPeers replaces the policy, including for existing relayed addresses.
func (a *Allocator) SetPeers(peers *peer.Policy) { a.peers.Store(peers) }

// Close closes the reserved ports. Addresses that were opened before are closed by their owners.
func (a *Allocator) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for token, held := range a.reserved {
		held.timer.Stop()
		held.drop()
		delete(a.reserved, token)
	}
	return nil
}

// Owns reports whether addr is an advertised address of the relay.
func (a *Allocator) Owns(addr netip.Addr) bool { return a.ownFamily(addr) != nil }

// MayPermit reports whether a permission for addr is allowed. An address of the relay itself is allowed, because only Send can
// tell which of its ports are relayed transport addresses.
func (a *Allocator) MayPermit(addr netip.Addr) (rule string, ok bool) {
	if a.ownFamily(addr) != nil {
		rule, denied := a.peers.Load().Denied(addr)
		return rule, !denied
	}
	return a.peers.Load().CheckAddr(addr)
}

// MayReach reports whether a packet may currently be sent to addr.
func (a *Allocator) MayReach(addr netip.AddrPort) (rule string, ok bool) {
	_, rule, ok = a.route(addr)
	return rule, ok
}

// route returns the local relayed address that has the advertised address addr, or nil if addr belongs to another host. rule is
// the rule that refuses addr, if one does.
//
// Two callers on one server are the common case. Their packets are delivered without a socket. They therefore neither require a
// NAT that forwards packets from inside back to the server (hairpinning), nor cross the kernel four times.
func (a *Allocator) route(addr netip.AddrPort) (own *Conn, rule string, ok bool) {
	if f := a.ownFamily(addr.Addr()); f != nil {
		if own = f.conn(addr.Port()); own != nil {
			rule, denied := a.peers.Load().Denied(addr.Addr())
			return own, rule, !denied
		}
	}
	rule, ok = a.peers.Load().Check(addr)
	return nil, rule, ok
}

// ownFamily returns the family with the advertised address addr, or nil. It may be one of former addresses, on which calls go on.
func (a *Allocator) ownFamily(addr netip.Addr) *family {
	for _, f := range a.current.Load().all {
		if f.Advertise == addr {
			return f
		}
	}
	return nil
}
