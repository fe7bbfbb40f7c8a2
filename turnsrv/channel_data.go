package turnsrv

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// channelData relays ChannelData from a client, RFC 8656 section 12.6. It goes only where both the channel is bound and the
// peer has a permission, which is the shorter-lived.
func (f *front) channelData(b []byte, a *allocation, now time.Time) {
	number, data, err := stun.ParseChannelData(b)
	if err != nil {
		f.server.counters.drop(DropMalformed)
		return
	}
	if a == nil {
		f.server.counters.drop(DropNoAllocation)
		return
	}
	relay, peer, p := a.channel(number, now)
	if relay == nil {
		f.server.counters.drop(DropNoPermission)
		return
	}
	relay.sendOn(data, peer, p, false, now)
}
