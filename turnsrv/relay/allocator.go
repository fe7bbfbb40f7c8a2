// Package relay opens relayed transport addresses (RFC 8656 section 2): UDP sockets in a range of ports, on an address
// to bind and under an address to advertise, which differ behind a NAT.
package relay

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// The range of ports that RFC 8656 section 7.2 suggests.
const (
	DefaultMinPort = 49152
	DefaultMaxPort = 65535
)

// ReservationLifetime is how long the port next to an even one is held for its token, RFC 8656 section 7.2, at most: it is
// given up with the even one, so that nobody holds more ports than addresses.
const ReservationLifetime = 30 * time.Second

// maxBindAttempts bounds the system calls of one Allocate. Ports that this allocator has in use itself cost none.
const maxBindAttempts = 32

// Errors of Allocate.
var (
	ErrFamily = errors.New("no relay address of this family")         // 440
	ErrNoPort = errors.New("no free relay port")                      // 508
	ErrToken  = errors.New("reservation token is unknown or expired") // 508
	ErrClosed = errors.New("relay allocator is closed")               // 508
)

// Address is one address of the relay.
type Address struct {
	// Bind is what sockets are bound to. It may be unspecified, as 0.0.0.0 is.
	Bind netip.Addr
	// Advertise is what clients and peers see. It has Bind's family, and need not be on any interface.
	Advertise netip.Addr
}

// Config is what an Allocator is made from.
type Config struct {
	// Addresses holds one address, or one of each family.
	Addresses []Address
	// MinPort and MaxPort bound the ports, both included. Both zero are DefaultMinPort and DefaultMaxPort.
	MinPort, MaxPort uint16
	// Peers is asked at every send. Required.
	Peers *peer.Policy
	// Listen opens a socket. Nil has the package open its own.
	Listen func(network string, addr netip.AddrPort) (Socket, error)
}

// Token names a reserved port, RFC 8656 section 18.7.
type Token [8]byte

// Request says what a relayed address has to be like.
type Request struct {
	// Family is that of the address. Ignored when there is a Token.
	Family stun.Family
	// EvenPort asks for an even port, ReserveNext for the one above it to be held too.
	EvenPort, ReserveNext bool
	// Token claims a port that was held, if it is not nil.
	Token *Token
	// Pull opens an address for StartPull and Receive, in place of Start.
	Pull bool
}

// Allocator opens relayed addresses. It is safe for concurrent use.
type Allocator struct {
	peers            atomic.Pointer[peer.Policy]
	minPort, maxPort int
	families         map[stun.Family]*family // written by New only
	sockets          sockets

	mu       sync.Mutex
	closed   bool
	reserved map[Token]*reservation
}

// family is the state of one address.
type family struct {
	Address
	network string
	socket  func(network string, addr netip.AddrPort) (socket, error)
	pulled  func(network string, addr netip.AddrPort) (socket, error) // for Request.Pull

	mu   sync.RWMutex
	used map[uint16]*Conn // bound here; its value is nil while it is only reserved
}

type reservation struct {
	family *family
	port   uint16
	socket socket
	timer  *time.Timer
}

// New returns an Allocator.
func New(config Config) (*Allocator, error) {
	if config.MinPort == 0 && config.MaxPort == 0 {
		config.MinPort, config.MaxPort = DefaultMinPort, DefaultMaxPort
	}
	switch {
	case config.MinPort == 0 || config.MinPort > config.MaxPort:
		return nil, fmt.Errorf("relay port range %d-%d is invalid", config.MinPort, config.MaxPort)
	case config.Peers == nil:
		return nil, errors.New("peer policy is missing")
	case len(config.Addresses) == 0:
		return nil, errors.New("relay address is missing")
	}
	a := &Allocator{
		minPort: int(config.MinPort), maxPort: int(config.MaxPort),
		families: make(map[stun.Family]*family), reserved: make(map[Token]*reservation),
	}
	a.peers.Store(config.Peers)
	listen, pulled := a.sockets.listen, goroutineSockets(listenUDP)
	if config.Listen != nil {
		pulled = goroutineSockets(config.Listen)
		listen = pulled
	}
	for _, addr := range config.Addresses {
		addr.Bind, addr.Advertise = addr.Bind.Unmap(), addr.Advertise.Unmap()
		if !addr.Bind.IsValid() || !addr.Advertise.IsValid() || addr.Bind.Is4() != addr.Advertise.Is4() {
			return nil, fmt.Errorf("relay address %v requires a bind address of its own family, not %v", addr.Advertise, addr.Bind)
		}
		if addr.Advertise.IsUnspecified() {
			return nil, fmt.Errorf("relay address %v is unspecified and cannot be advertised", addr.Advertise)
		}
		f := &family{Address: addr, network: "udp6", used: make(map[uint16]*Conn), socket: listen, pulled: pulled}
		id := stun.IPv6
		if addr.Bind.Is4() {
			id, f.network = stun.IPv4, "udp4"
		}
		if a.families[id] != nil {
			return nil, fmt.Errorf("relay address %v: another address of this family is already configured", addr.Advertise)
		}
		a.families[id] = f
	}
	return a, nil
}

// Has reports whether the relay has an address of the family.
func (a *Allocator) Has(id stun.Family) bool { return a.families[id] != nil }

// Allocate opens a relayed address, to which Start has to be applied. The second result names the port above it, if Request.ReserveNext asked for that.
// The error is one of those above, or one of the system's, which is to be taken as ErrNoPort.
func (a *Allocator) Allocate(request Request) (*Conn, Token, error) {
	if a.isClosed() {
		return nil, Token{}, ErrClosed
	}
	if request.Token != nil {
		conn, err := a.claim(*request.Token)
		return conn, Token{}, err
	}
	f := a.families[request.Family]
	if f == nil {
		return nil, Token{}, ErrFamily
	}
	socket, next, port, err := a.bind(f, request)
	if err != nil {
		return nil, Token{}, err
	}
	var token Token
	if next != nil {
		if token, err = a.reserve(f, port+1, next); err != nil {
			f.release(port)
			return nil, Token{}, errors.Join(err, socket.close())
		}
	}
	return &Conn{allocator: a, family: f, port: port, socket: socket, reserved: token}, token, nil
}

func (a *Allocator) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}

// bind tries ports in a random order. With ReserveNext it binds the port above too, or none.
func (a *Allocator) bind(f *family, request Request) (socket, next socket, port uint16, err error) {
	attempts := 0
	for candidate := range a.candidates() {
		if request.EvenPort && (candidate%2 != 0 || request.ReserveNext && int(candidate)+1 > a.maxPort) {
			continue
		}
		if !f.take(candidate) {
			continue
		}
		if attempts++; attempts > maxBindAttempts {
			f.release(candidate)
			break
		}
		if socket, err = f.listen(candidate, request.Pull); err == nil {
			if !request.ReserveNext {
				return socket, nil, candidate, nil
			}
			if f.take(candidate + 1) {
				if next, err = f.listen(candidate+1, request.Pull); err == nil {
					return socket, next, candidate, nil
				}
				f.release(candidate + 1)
			}
			_ = socket.close()
		}
		f.release(candidate)
		// Another program has the port, or may not be given it. Anything else, such as a want of descriptors, will not
		// be better at the next port.
		if err != nil && !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
			return nil, nil, 0, fmt.Errorf("bind relay address %v: %w", netip.AddrPortFrom(f.Bind, candidate), err)
		}
	}
	return nil, nil, 0, ErrNoPort
}

// candidates yields every port of the range once, in an order that cannot be guessed: RFC 8656 section 7.2 wants ports
// that are hard to predict.
func (a *Allocator) candidates() func(yield func(uint16) bool) {
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

// reserve holds a bound port for whoever brings the token that it returns.
func (a *Allocator) reserve(f *family, port uint16, socket socket) (Token, error) {
	var token Token
	_, _ = rand.Read(token[:]) // never fails
	held := &reservation{family: f, port: port, socket: socket}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		f.release(port)
		return Token{}, errors.Join(ErrClosed, socket.close())
	}
	a.reserved[token] = held
	held.timer = time.AfterFunc(ReservationLifetime, func() { a.dropReservation(token) })
	return token, nil
}

// unreserve takes a reservation out, or returns nil if somebody else did.
func (a *Allocator) unreserve(token Token) *reservation {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := a.reserved[token]
	delete(a.reserved, token)
	return held
}

// dropReservation gives up the port that is held for token, if one is.
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

func (a *Allocator) claim(token Token) (*Conn, error) {
	held := a.unreserve(token)
	if held == nil {
		return nil, ErrToken
	}
	held.timer.Stop()
	return &Conn{allocator: a, family: held.family, port: held.port, socket: held.socket}, nil
}

// SetPeers replaces the policy, for what is sent from now on on running allocations too.
func (a *Allocator) SetPeers(peers *peer.Policy) { a.peers.Store(peers) }

// Close gives up the ports that are held for a token, and ends the readers of relayed addresses. Their owners, who should have
// closed them before, hear nothing any more.
func (a *Allocator) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for token, held := range a.reserved {
		held.timer.Stop()
		held.drop()
		delete(a.reserved, token)
	}
	return a.sockets.close()
}

// Owns reports whether addr is an address of the relay itself, as it is advertised.
func (a *Allocator) Owns(addr netip.Addr) bool { return a.ownFamily(addr) != nil }

// MayPermit reports whether a permission for addr may be given. An address of the relay itself may be: which of its
// ports are relayed addresses is seen only at a send.
func (a *Allocator) MayPermit(addr netip.Addr) (rule string, ok bool) {
	if a.ownFamily(addr) != nil {
		rule, denied := a.peers.Load().Denied(addr)
		return rule, !denied
	}
	return a.peers.Load().CheckAddr(addr)
}

// MayReach reports whether a packet may go to addr now.
func (a *Allocator) MayReach(addr netip.AddrPort) (rule string, ok bool) {
	_, rule, ok = a.route(addr)
	return rule, ok
}

// route returns the relayed address of ours that a packet for addr goes to, nil if it is somebody else's, or the rule that
// refuses it.
//
// Two callers on one server are the common case. Their packets do not go through a socket, so that they neither depend
// on whether the NAT in front of the server sends back what comes from inside, nor cross the kernel four times.
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

// ownFamily returns the family whose advertised address addr is, or nil.
func (a *Allocator) ownFamily(addr netip.Addr) *family {
	for _, f := range a.families {
		if f.Advertise == addr {
			return f
		}
	}
	return nil
}

func (f *family) listen(port uint16, pull bool) (socket, error) {
	open := f.socket
	if pull {
		open = f.pulled
	}
	socket, err := open(f.network, netip.AddrPortFrom(f.Bind, port))
	if err == nil && CanDontFragment && f.Bind.Is4() {
		// Linux sets the DF bit of its own accord. RFC 8656 section 15 wants it clear unless the client asked for it.
		if err = socket.dontFragment(false); err != nil {
			_ = socket.close()
		}
	}
	return socket, err
}

// take claims a port within this process and reports whether it was free.
func (f *family) take(port uint16) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, taken := f.used[port]; taken {
		return false
	}
	f.used[port] = nil
	return true
}

func (f *family) release(port uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.used, port)
}

func (f *family) open(port uint16, c *Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used[port] = c
}

// conn returns the relayed address at port, or nil if there is none or the port is only held for one.
func (f *family) conn(port uint16) *Conn {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.used[port]
}
