package pionturn

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

const (
	// maxDatagram is the length in bytes of the longest datagram that pion reads from a relayed address. It would truncate a longer
	// one.
	maxDatagram = 1600
	// maxWaiting is the maximum number of datagrams from other relayed addresses that wait for pion: a burst of a few video frames.
	maxWaiting = 128
)

// generator is a turn.RelayAddressGenerator.
type generator struct{ server *Server }

// Validate implements turn.RelayAddressGenerator.
func (generator) Validate() error { return nil }

// AllocatePacketConn implements turn.RelayAddressGenerator. It uses the address family of the relay instead of the requested
// network, which is always udp4. pion requests a specific port only for EVEN-PORT (RFC 8656 section 18.6), so any even port will
// do.
func (g generator) AllocatePacketConn(_ string, port int) (net.PacketConn, net.Addr, error) {
	conn, _, err := g.server.config.Relay.Allocate(relay.Request{Family: g.server.family, EvenPort: port != 0})
	if err != nil {
		g.server.log.info("relay", "cannot open a relayed address", "err", err)
		return nil, nil, err
	}
	r := &relayed{server: g.server, conn: conn}
	conn.StartPull(r)
	if !g.server.open(r) {
		_ = r.Close()
		return nil, nil, ErrServerClosed
	}
	return r, net.UDPAddrFromAddrPort(conn.Relayed()), nil
}

// AllocateConn implements turn.RelayAddressGenerator. It returns errors.ErrUnsupported, because RFC 6062 is not supported.
func (generator) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, errors.ErrUnsupported
}

// mayPermit is a turn.PermissionHandler, RFC 8656 section 10.2.
func (s *Server) mayPermit(_ net.Addr, peer net.IP) bool {
	addr, _ := netip.AddrFromSlice(peer)
	rule, ok := s.config.Relay.MayPermit(addr.Unmap())
	if !ok {
		s.log.info(rule, "peer refused", "peer", addr.Unmap().String(), "rule", rule)
	}
	return ok
}

// open registers r, unless the server is closed.
func (s *Server) open(r *relayed) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.relayed[r] = struct{}{}
	}
	return !s.closed
}

// errRefusedPeer is returned for a packet to a peer that the policy refuses. The rule is logged, but not for every packet.
var errRefusedPeer = errors.New("peer refused")

// relayed is a relayed transport address as pion sees it. It implements relay.Owner.
type relayed struct {
	server *Server
	conn   *relay.Conn
	unsent error // result of the last Send; owned by pion's goroutine that sends, of which an allocation has one

	// What follows is owned by pion's goroutine that reads.
	peer   netip.AddrPort // of which addr is
	addr   *net.UDPAddr
	buffer [maxDatagram + 1]byte // one byte more than maxDatagram, to detect longer datagrams

	mu      sync.Mutex // guards what follows
	waiting []datagram // from other relayed addresses

	once sync.Once
}

// datagram is a datagram from another relayed address.
type datagram struct {
	peer netip.AddrPort
	data []byte
}

// Deliver implements relay.Owner. It drops a datagram that pion would truncate, and one for which there is no room.
func (r *relayed) Deliver(peer netip.AddrPort, data []byte, _ time.Time) {
	if len(data) > maxDatagram {
		return
	}
	r.mu.Lock()
	room := len(r.waiting) < maxWaiting
	if room {
		r.waiting = append(r.waiting, datagram{peer, bytes.Clone(data)})
	}
	r.mu.Unlock()
	if room {
		r.conn.Wake(true)
	}
}

// Failed implements relay.Owner. pion does not pass ICMP errors to clients.
func (r *relayed) Failed(netip.AddrPort, stun.ICMP, time.Time) {}

// next returns the datagram that has waited longest. It reports false if there is none.
func (r *relayed) next() (d datagram, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		r.waiting = nil
		return datagram{}, false
	}
	d, r.waiting = r.waiting[0], r.waiting[1:]
	return d, true
}

// ReadFrom implements net.PacketConn. An error of the socket does not end the allocation, unless the socket is closed.
func (r *relayed) ReadFrom(p []byte) (int, net.Addr, error) {
	for wait := time.Duration(0); ; {
		if d, ok := r.next(); ok {
			if n := copy(p, d.data); n == len(d.data) {
				return n, r.addrOf(d.peer), nil
			}
			continue
		}
		n, peer, err := r.conn.ReadFrom(r.buffer[:])
		switch {
		case err == nil && n <= min(maxDatagram, len(p)):
			return copy(p, r.buffer[:n]), r.addrOf(peer), nil
		case err == nil: // too long
			wait = 0
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.conn.Wake(false) // before next is called: a later datagram wakes the reader again
		case errors.Is(err, net.ErrClosed):
			return 0, nil, err
		default:
			wait = nextWait(wait)
			time.Sleep(wait)
		}
	}
}

// addrOf returns the address of a peer in the form that pion requires. It keeps the last one, because most datagrams come from the
// same peer as the previous one.
func (r *relayed) addrOf(peer netip.AddrPort) net.Addr {
	if r.addr == nil || r.peer != peer {
		r.peer, r.addr = peer, net.UDPAddrFromAddrPort(peer)
	}
	return r.addr
}

// WriteTo implements net.PacketConn. relay.Conn.Send checks the policy again, because a permission does not cover ports, and
// because the policy may have changed since the permission was installed.
func (r *relayed) WriteTo(p []byte, to net.Addr) (int, error) {
	r.unsent = nil
	r.conn.Send(p, udp.AddrPortOf(to), false, time.Now())
	if r.unsent != nil {
		return 0, r.unsent
	}
	return len(p), nil
}

// Sent implements relay.Owner.
func (r *relayed) Sent(_ int, err error) { r.unsent = err }

// Refused implements relay.Owner.
func (r *relayed) Refused(peer netip.AddrPort, rule string, _ time.Time) {
	r.unsent = fmt.Errorf("%w: %s", errRefusedPeer, rule)
	r.server.log.info(rule, "peer refused", "peer", peer.String(), "rule", rule)
}

// Close implements net.PacketConn. It always returns nil, because pion stops closing its allocations at the first error. It may be
// called more than once.
func (r *relayed) Close() error {
	r.once.Do(func() {
		r.conn.Close()
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		delete(r.server.relayed, r)
	})
	return nil
}

// LocalAddr returns the address that the socket is bound to.
func (r *relayed) LocalAddr() net.Addr { return r.conn.LocalAddr() }

// SetDeadline does nothing, because pion sets no deadlines for relayed addresses.
func (*relayed) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (*relayed) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (*relayed) SetWriteDeadline(time.Time) error { return nil }
