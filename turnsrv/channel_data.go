package turnsrv

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// channelData handles ChannelData from a client, RFC 8656 section 12.6, and returns what pion gets: the message without
// its padding. It goes only where both the channel is bound and the peer has a permission, which is the shorter-lived.
func (f *front) channelData(b []byte, a *allocation, now time.Time) []byte {
	number, data, err := stun.ParseChannelData(b)
	if err != nil {
		return f.drop(DropMalformed)
	}
	if a == nil {
		return f.drop(DropNoAllocation)
	}
	peer, ok := a.bound(number, now)
	if !ok {
		return f.drop(DropNoPermission)
	}
	p := a.permission(peer.Addr(), now)
	if p == nil {
		return f.drop(DropNoPermission)
	}
	if !p.mayGo(len(data), f.server.config.SilentPeerBytes, now) {
		return f.drop(DropSilentPeer)
	}
	if !f.server.bandwidth(&a.bandwidths.toPeer, &f.server.total.toPeer, len(data), now) {
		return nil
	}
	a.relay.DontFragment(false)
	return b[:stun.ChannelDataHeaderLen+len(data)]
}
