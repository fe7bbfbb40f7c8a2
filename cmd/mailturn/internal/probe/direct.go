package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// directChannel is bound to this machine's socket. The caller's channel to the callee is another one.
const directChannel = stun.MinChannel + 1

// directUntested returns why packets between this machine and a relayed address would not test the firewall in front of the relay's
// ports; empty if they do. mine is the address of this machine as the relay sees it.
func directUntested(mine, relayed netip.Addr) string {
	switch local, err := net.InterfaceAddrs(); {
	case mine.Is4() != relayed.Is4():
		return fmt.Sprintf("the relayed address is of another family than this machine's, %v", mine)
	case mine == relayed, err == nil && slices.ContainsFunc(local, func(a net.Addr) bool { return isAddr(a, relayed) }):
		return "this is the relay's own machine"
	case isLocal(mine) && !isLocal(relayed):
		return fmt.Sprintf("this machine has a private address, %v, for the relay", mine)
	}
	return ""
}

// isAddr reports whether an interface's address is addr.
func isAddr(a net.Addr, addr netip.Addr) bool {
	prefix, err := netip.ParsePrefix(a.String())
	return err == nil && prefix.Addr().Unmap() == addr
}

// direct sends to the relayed address from a socket of this machine, like a caller on another server or without a NAT, and sends
// the packets back through the relay.
func (r *run) direct(ctx context.Context, a *attempt, caller *turnclient.Client, from turnclient.Allocation) {
	mine := from.Mapped.Addr().Unmap()
	if a.directSkipped = directUntested(mine, from.Relayed.Addr().Unmap()); a.directSkipped != "" {
		return
	}
	permitting, cancel := context.WithTimeout(ctx, r.Depth.patience())
	defer cancel()
	if err := caller.CreatePermission(permitting, mine); turnclient.Code(err) == stun.CodeForbidden {
		a.directSkipped = fmt.Sprintf("the relay refuses peers at this machine's address, %v", mine)
		return
	} else if err != nil {
		a.directSkipped = fmt.Sprintf("a permission for this machine's address failed: %v", err)
		return
	}
	socket, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(from.Relayed))
	if err != nil {
		a.directSkipped = err.Error()
		return
	}
	_ = dontFragment(socket) // without it, the path MTU may appear too large
	e, search := newEcho(min(r.Depth.packets(), 20)), newSizeSearch()
	var reading sync.WaitGroup
	defer reading.Wait()
	defer socket.Close()
	reading.Go(func() {
		buf := make([]byte, maxPacket+1)
		for {
			n, err := socket.Read(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			e.received(buf[:n]) // nothing after an ICMP error
			search.received(buf[:n])
		}
	})
	var peer atomic.Pointer[netip.AddrPort] // the socket as the relay sees it
	caller.Handle(func(d turnclient.Data) {
		switch {
		case d.Peer.IsValid():
			peer.Store(&d.Peer)
			_ = caller.Send(d.Peer, d.Payload)
		case d.Channel == directChannel:
			_ = caller.SendChannel(directChannel, d.Payload)
		}
	})
	defer caller.Handle(func(turnclient.Data) {})
	send := func(payload []byte) error {
		_, _ = socket.Write(payload) // an ICMP error about an earlier packet does not matter
		return nil
	}
	a.Direct = e.run(ctx, r.Depth.patience()/2, send)
	socketAddr := peer.Load()
	if a.Direct.Received == 0 || socketAddr == nil { // a server can return packets without this client
		return
	}
	// On a channel, so that large packets have the same size on the way to the client as in calls.
	binding, cancel := context.WithTimeout(ctx, r.Depth.patience())
	defer cancel()
	if caller.ChannelBind(binding, directChannel, *socketAddr) == nil {
		a.Direct.LargestBytes = search.run(ctx, r.Depth.sizeCopies(), r.Depth.sizePatience(a.Direct), send)
	}
}
