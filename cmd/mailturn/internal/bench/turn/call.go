package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/pion/dtls/v3"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/generator"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// leg is how a client reaches the server.
type leg int

const (
	overUDP leg = iota
	overTCP
	overTLS
	overDTLS
)

// call makes the allocations and channels of a load's calls, makes the generator act as their parties, and returns the calls.
func (b *bench) call(ctx context.Context, r relayRow, s *running, g *generator.Generator) ([]generator.Call, error) {
	calls := make([]generator.Call, r.Calls)
	clients := make([][2]*turnclient.Client, r.Calls)
	var err error
	if s.kind.forwards {
		err = b.prepareFlows(ctx, s.at, g, calls)
	} else {
		err = b.prepare(ctx, r, s.at, g, calls, clients)
	}
	for _, pair := range clients {
		for _, c := range pair {
			if c != nil {
				c.Close() // from now on, the generator receives what arrives
			}
		}
	}
	for i := range calls {
		if s := calls[i][generator.Client].Stream; s != nil && err == nil {
			err = s.Detach()
		}
	}
	if err == nil {
		err = g.Enter(calls)
	}
	if err == nil {
		return calls, nil
	}
	for i := range calls {
		if s := calls[i][generator.Client].Stream; s != nil {
			s.Close()
		}
		if a := calls[i][generator.Client].Association; a != nil {
			a.Close()
		}
	}
	return nil, err
}

// prepare fills in the calls. The second client of a call remains nil unless both parties are clients.
func (b *bench) prepare(ctx context.Context, r relayRow, at address, g *generator.Generator, calls []generator.Call, clients [][2]*turnclient.Client) (err error) {
	const client, peer = generator.Client, generator.Peer
	clientPort, peerPort := g.Ports()
	for i := range calls {
		one := &calls[i]
		one[client].Channel = stun.MinChannel + stun.ChannelNumber(i)
		if clients[i][client], err = b.dial(ctx, r.leg, at, clientPort, &one[client]); err != nil {
			return err
		}
		if !r.bothHere {
			one[peer].Local = b.network.peer(i)
			continue
		}
		one[peer].Channel = stun.MinChannel + stun.ChannelNumber(r.Calls+i)
		one[peer].Local, one[peer].Remote = b.nextOtherClient(), at.plain()
		err = generator.InNamespace(b.network.peers, func() (err error) {
			clients[i][peer], err = b.dialUDP(ctx, at, netip.AddrPortFrom(one[peer].Local, peerPort))
			return err
		})
		if err != nil {
			return err
		}
	}
	return b.each(ctx, len(calls), func(ctx context.Context, i int) error {
		one := &calls[i]
		first, err := reserve(ctx, clients[i][client])
		if err != nil {
			return err
		}
		second := netip.AddrPortFrom(one[peer].Local, peerPort)
		if !r.bothHere {
			one[peer].Remote = first
		} else if second, err = reserve(ctx, clients[i][peer]); err == nil {
			err = clients[i][peer].ChannelBind(ctx, one[peer].Channel, first)
		}
		if err != nil {
			return err
		}
		return clients[i][client].ChannelBind(ctx, one[client].Channel, second)
	})
}

// hangUp ends the allocations of calls over UDP. port is the port that the generator, which is closed, used for clients.
func (b *bench) hangUp(ctx context.Context, at address, port uint16, calls []generator.Call) error {
	return b.each(ctx, len(calls), func(ctx context.Context, i int) error {
		c, err := b.dialUDP(ctx, at, netip.AddrPortFrom(calls[i][generator.Client].Local, port))
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Challenge(ctx); err != nil {
			return err
		}
		return end(ctx, c)
	})
}

// reserve returns the relayed address of a new allocation.
func reserve(ctx context.Context, c *turnclient.Client) (netip.AddrPort, error) {
	if _, err := c.Challenge(ctx); err != nil {
		return netip.AddrPort{}, err
	}
	allocation, err := c.Allocate(ctx)
	return allocation.Relayed, err
}

// dial returns a client that reaches the server over a leg, and fills in the addresses or the connection of its party. Over UDP, it
// shares a port with the generator.
func (b *bench) dial(ctx context.Context, l leg, at address, port uint16, party *generator.Party) (*turnclient.Client, error) {
	local := b.nextClient()
	if l == overUDP {
		*party = generator.Party{Local: local, Remote: at.plain(), Channel: party.Channel}
		return b.dialUDP(ctx, at, netip.AddrPortFrom(local, port))
	}
	if l == overDTLS {
		conn, err := dialDTLS(ctx, local, at.secure())
		if err != nil {
			return nil, err
		}
		party.Association = generator.NewAssociation(conn)
		return b.client(party.Association.Conn(), false), nil
	}
	server, config := at.plain(), (*tls.Config)(nil)
	if l == overTLS {
		// The generator checks what comes back, so the certificate need not be verified.
		server, config = at.secure(), &tls.Config{InsecureSkipVerify: true}
	}
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))}
	conn, err := dialer.DialContext(ctx, "tcp4", server.String())
	if err != nil {
		return nil, err
	}
	party.Stream = generator.NewStream(conn.(*net.TCPConn), config)
	return b.client(party.Stream.Conn(), true), nil
}

// dialDTLS returns a DTLS association with a server. The generator checks what comes back, so the certificate need not be verified.
func dialDTLS(ctx context.Context, local netip.Addr, server netip.AddrPort) (net.Conn, error) {
	socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		return nil, err
	}
	conn, err := dtls.ClientWithOptions(socket, net.UDPAddrFromAddrPort(server), dtls.WithInsecureSkipVerify(true))
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// dialUDP returns a client at an address that it can share with a generator.
func (b *bench) dialUDP(ctx context.Context, at address, local netip.AddrPort) (*turnclient.Client, error) {
	conn, err := dialShared(ctx, at, local)
	if err != nil {
		return nil, err
	}
	return b.client(conn, false), nil
}

// dialShared returns a UDP socket at an address that it can share with a generator.
func dialShared(ctx context.Context, at address, local netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(local),
		Control:   func(_, _ string, raw syscall.RawConn) error { return raw.Control(reuseAddr) },
	}
	return dialer.DialContext(ctx, "udp4", at.plain().String())
}
