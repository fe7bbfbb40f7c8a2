package turnsrv

import (
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// channelData relays ChannelData from a client, RFC 8656 section 12.6, for as long as the channel is bound.
func (f *front) channelData(b []byte, from client, a *allocation, now time.Time) {
	number, data, err := stun.ParseChannelData(b)
	if err != nil {
		f.drop(DropMalformed, from, now)
		return
	}
	if a == nil {
		f.drop(DropNoAllocation, from, now)
		return
	}
	relay, peer, p := a.channel(number, now)
	if relay == nil {
		a.drop(DropNoChannel, netip.AddrPort{}, nil)
		return
	}
	relay.sendOn(data, peer, p, false, now)
}
