package relay

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Export adds the address to a state. With a loop, it is called on its goroutine. It returns errors.ErrUnsupported for an address
// without a loop.
func (c *Conn) Export(o *handover.Outgoing) (handover.Address, error) {
	fd, ok := c.socket.descriptor()
	if !ok {
		return handover.Address{}, errors.ErrUnsupported
	}
	address := handover.Address{Descriptor: o.Add(fd), Relayed: c.Relayed(), DontFragment: c.fragmentsNot}
	if c.reserved != (Token{}) {
		address.Reserved = bytes.Clone(c.reserved[:])
	}
	return address, nil
}

// Restore returns an address that another process has exported, for an event loop. The caller must call Start on it.
func (a *Allocator) Restore(in *handover.Incoming, address handover.Address, l *loop.Loop) (*Conn, error) {
	f, socket, err := a.inherit(in, address.Descriptor, address.Relayed)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		family: f, port: address.Relayed.Port(), socket: socket, loop: l, fragmentsNot: address.DontFragment, inherited: true,
	}
	copy(c.reserved[:], address.Reserved)
	return c, nil
}

// inherit returns the socket of a relayed address, and claims its port.
func (a *Allocator) inherit(in *handover.Incoming, descriptor int, relayed netip.AddrPort) (*family, socket, error) {
	fd, err := in.Take(descriptor)
	if err != nil {
		return nil, nil, err
	}
	socket, bound, err := inheritSocket(fd)
	if err != nil {
		return nil, nil, err
	}
	f, port := a.ownFamily(relayed.Addr()), relayed.Port()
	if a.changing && (f == nil || !f.isAt(bound, port)) {
		f = a.formerFamily(relayed.Addr(), bound.Addr())
	}
	switch {
	case f == nil || int(port) < a.minPort || int(port) > a.maxPort:
		err = fmt.Errorf("relayed address %v is not one that the configuration allows", relayed)
	case !f.isAt(bound, port):
		err = fmt.Errorf("relayed address %v is bound to %v, which the configuration does not allow", relayed, bound)
	case !f.take(port):
		err = fmt.Errorf("%w: relayed address %v occurs twice", handover.ErrDamaged, relayed)
	default:
		f.bound(port)
		return f, socket, nil
	}
	return nil, nil, errors.Join(err, socket.close())
}

// formerFamily returns the family of an address of the relay in an earlier process, at which a socket is bound. It returns nil if that is
// impossible.
func (a *Allocator) formerFamily(advertise, bound netip.Addr) *family {
	if stun.FamilyOf(bound) != stun.FamilyOf(advertise) {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	addresses := *a.current.Load()
	f := a.familyAt(&addresses, Address{Bind: bound.WithZone(""), Advertise: advertise})
	if !slices.Contains(addresses.all, f) { // it may have been added meanwhile
		addresses.all = append(slices.Clip(addresses.all), f)
		a.current.Store(&addresses)
	}
	return f
}

// isAt reports whether bound, the address of a socket, is the family's with this port.
func (f *family) isAt(bound netip.AddrPort, port uint16) bool {
	return bound.Port() == port && bound.Addr().WithZone("") == f.Bind.WithZone("") &&
		stun.FamilyOf(bound.Addr()) == stun.FamilyOf(f.Bind)
}

// ExportReservations adds the reserved ports to a state, if event loops can serve them.
func (a *Allocator) ExportReservations(o *handover.Outgoing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for token, held := range a.reserved {
		fd, ok := held.socket.descriptor()
		if left := o.Until(held.until); ok && left > 0 {
			o.State.Reservations = append(o.State.Reservations, handover.Reservation{
				Token: slices.Clone(token[:]), Descriptor: o.Add(fd), Relayed: netip.AddrPortFrom(held.family.Advertise, held.port),
				Left: left, Looped: held.looped,
			})
		}
	}
}

// RestoreReservations reserves the ports that another process has exported.
func (a *Allocator) RestoreReservations(in *handover.Incoming) error {
	for _, r := range in.State.Reservations {
		if len(r.Token) != len(Token{}) {
			return fmt.Errorf("%w: a token has %d bytes", handover.ErrDamaged, len(r.Token))
		}
		f, socket, err := a.inherit(in, r.Descriptor, r.Relayed)
		if err != nil {
			return err
		}
		held := &reservation{family: f, port: r.Relayed.Port(), socket: socket, looped: r.Looped}
		if err := a.hold(Token(r.Token), held, time.Until(in.At(r.Left))); err != nil {
			return err
		}
	}
	return nil
}
