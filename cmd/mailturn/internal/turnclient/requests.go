package turnclient

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Binding is the answer to a Binding request (RFC 8489 section 3).
type Binding struct {
	Mapped   netip.AddrPort // the client's address as the server sees it
	Duration time.Duration
	// Sent is how often the request was sent. Above 1, something was lost or late.
	Sent int
}

// Bind asks the server for the client's own address.
func (c *Client) Bind(ctx context.Context) (Binding, error) {
	a, err := c.transact(ctx, stun.MethodBinding, func(*stun.Builder) {})
	if err == nil {
		err = a.refusal()
	}
	if err != nil {
		return Binding{Sent: a.transmission}, err
	}
	mapped, err := stun.ParseXORAddress(a.attr(stun.AttrXORMappedAddress), a.message.TransactionID)
	if err != nil {
		return Binding{}, fmt.Errorf("XOR-MAPPED-ADDRESS: %w", err)
	}
	return Binding{netip.AddrPortFrom(mapped.Addr().Unmap(), mapped.Port()), a.duration, a.transmission}, nil
}

// Challenge is the answer to a request without credentials (RFC 8489 section 9.2.4).
type Challenge struct {
	Realm string
	// RequestBytes and ResponseBytes are the sizes of the two messages: a server whose answers to strangers are larger than their
	// requests can be used to flood others.
	RequestBytes, ResponseBytes int
	Duration                    time.Duration

	nonce string
}

// ErrNoChallenge is returned if a server allocates, or answers, without asking for a user name.
var ErrNoChallenge = errors.New("the server does not ask for a user name")

// requestUDP is REQUESTED-TRANSPORT for UDP, protocol 17 (RFC 8656 section 18.7).
func requestUDP(b *stun.Builder) { b.Uint32(stun.AttrRequestedTransport, 17<<24) }

// Challenge sends an Allocate request without credentials.
func (c *Client) Challenge(ctx context.Context) (Challenge, error) {
	a, err := c.transact(ctx, stun.MethodAllocate, requestUDP)
	if err != nil {
		return Challenge{}, err
	}
	refused := a.refusal()
	if refused == nil {
		return Challenge{}, ErrNoChallenge
	}
	if Code(refused) != stun.CodeUnauthenticated {
		return Challenge{}, refused
	}
	challenge := Challenge{
		Realm: string(a.attr(stun.AttrRealm)), nonce: string(a.attr(stun.AttrNonce)),
		RequestBytes: a.request, ResponseBytes: len(a.raw), Duration: a.duration,
	}
	if challenge.Realm == "" || challenge.nonce == "" {
		return Challenge{}, errors.New("the 401 has no REALM or no NONCE")
	}
	c.use(challenge)
	return challenge, nil
}

// Allocation is the result of an Allocate request (RFC 8656 section 7.3).
type Allocation struct {
	Relayed  netip.AddrPort
	Mapped   netip.AddrPort
	Lifetime time.Duration
	Duration time.Duration // until the answer
}

// Allocate requests a relayed transport address as Chromium does: for UDP, of the family that the server prefers. Challenge must be
// called first.
func (c *Client) Allocate(ctx context.Context) (Allocation, error) {
	a, err := c.authenticated(ctx, stun.MethodAllocate, requestUDP)
	if err != nil {
		return Allocation{}, err
	}
	relayed, err := stun.ParseXORAddress(a.attr(stun.AttrXORRelayedAddress), a.message.TransactionID)
	if err != nil {
		return Allocation{}, fmt.Errorf("XOR-RELAYED-ADDRESS: %w", err)
	}
	mapped, err := stun.ParseXORAddress(a.attr(stun.AttrXORMappedAddress), a.message.TransactionID)
	if err != nil {
		return Allocation{}, fmt.Errorf("XOR-MAPPED-ADDRESS: %w", err)
	}
	return Allocation{Relayed: relayed, Mapped: mapped, Lifetime: a.lifetime(), Duration: a.duration}, nil
}

func (a *answer) lifetime() time.Duration {
	value := a.attr(stun.AttrLifetime)
	if len(value) != 4 {
		return 0
	}
	return time.Duration(binary.BigEndian.Uint32(value)) * time.Second
}

// Refresh requests another lifetime, zero to end the allocation (RFC 8656 section 8), and returns the granted one.
func (c *Client) Refresh(ctx context.Context, lifetime time.Duration) (time.Duration, error) {
	a, err := c.authenticated(ctx, stun.MethodRefresh, func(b *stun.Builder) {
		b.Uint32(stun.AttrLifetime, uint32(lifetime/time.Second))
	})
	return a.lifetime(), err
}

// CreatePermission permits a peer to send to the relayed address, from any port (RFC 8656 section 9).
func (c *Client) CreatePermission(ctx context.Context, peer netip.Addr) error {
	_, err := c.authenticated(ctx, stun.MethodCreatePermission, func(b *stun.Builder) {
		b.XORAddress(stun.AttrXORPeerAddress, netip.AddrPortFrom(peer, 9)) // the port is ignored there
	})
	return err
}

// ChannelBind binds a channel to a peer, which also creates the permission (RFC 8656 section 12).
func (c *Client) ChannelBind(ctx context.Context, number stun.ChannelNumber, peer netip.AddrPort) error {
	_, err := c.authenticated(ctx, stun.MethodChannelBind, func(b *stun.Builder) {
		b.Uint32(stun.AttrChannelNumber, uint32(number)<<16)
		b.XORAddress(stun.AttrXORPeerAddress, peer)
	})
	return err
}

// SendChannel sends to the peer of a channel.
func (c *Client) SendChannel(number stun.ChannelNumber, payload []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.out.ChannelData(number, payload)
	b := c.out.Bytes()
	if c.stream { // padded to a multiple of four bytes (RFC 8656 section 12.5)
		b = append(b, padding[:-len(b)&3]...)
	}
	return c.writeLocked(b)
}

var padding [3]byte

// Send sends to a peer in a Send indication (RFC 8656 section 11.1).
func (c *Client) Send(peer netip.AddrPort, payload []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	var id stun.TransactionID
	binary.BigEndian.PutUint64(id[4:], uint64(time.Now().UnixNano()))
	c.out.Start(stun.MethodSend, stun.ClassIndication, id)
	c.out.XORAddress(stun.AttrXORPeerAddress, peer)
	c.out.Attr(stun.AttrData, payload)
	return c.writeLocked(c.out.Bytes())
}
