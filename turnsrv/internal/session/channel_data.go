package session

import (
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// channelData relays ChannelData from a client while the channel is bound, RFC 8656 section 12.6.
func (s *Session) channelData(b []byte, from Client, a *allocation, now time.Time) {
	number, data, err := stun.ParseChannelData(b)
	if err != nil {
		s.drop(event.DropMalformed, from, now)
		return
	}
	if a == nil {
		s.drop(event.DropNoAllocation, from, now)
		return
	}
	c := a.peers.bound(number, now)
	if c == nil {
		a.addresses[0].drop(event.DropNoChannel, netip.AddrPort{}, nil)
		return
	}
	address := a.towards(c.peer)
	if address == nil { // the relayed address of this family has expired
		a.addresses[0].drop(event.DropNoChannel, c.peer, nil)
		return
	}
	address.send(data, c.peer, c.permission, false, now)
	s.offload(a, c, address, now)
}
