package turnsrv

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// channelData handles ChannelData from a client, RFC 8656 section 12.6, and returns what pion gets, the message without
// its padding, and for which relayed address. It goes only where both the channel is bound and the peer has a permission,
// which is the shorter-lived.
func (f *front) channelData(b []byte, a *allocation, now time.Time) ([]byte, *allocation) {
	number, data, err := stun.ParseChannelData(b)
	if err != nil {
		return f.drop(DropMalformed), nil
	}
	if a == nil {
		return f.drop(DropNoAllocation), nil
	}
	a, peer := a.channel(number, now)
	if a == nil {
		return f.drop(DropNoPermission), nil
	}
	p := a.permission(peer.Addr(), now)
	if p == nil {
		return f.drop(DropNoPermission), nil
	}
	if !p.mayGo(len(data), f.server.config.SilentPeerBytes, now) {
		return f.drop(DropSilentPeer), nil
	}
	if !f.server.bandwidth(&a.bandwidths.toPeer, &f.server.total.toPeer, len(data), now) {
		return nil, nil
	}
	a.relay.DontFragment(false)
	return b[:stun.ChannelDataHeaderLen+len(data)], a
}
