//go:build amd64 || arm64

package kernel

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// TestShare has accounts add as many channels as they can: each gets half of what the ones before it have left, so that the next one
// always gets some. Entries that rest count for the account that has used them.
func TestShare(t *testing.T) {
	now := time.Now()
	p := loadForTest(t, 512)
	b := bindings(now)["IPv4"]
	port := uint16(10000)
	fill := func(share *Share) (channels []*Channel, err error) {
		for {
			port++
			b.Share = share
			b.Client, b.Peer = netip.AddrPortFrom(b.Client.Addr(), port), netip.AddrPortFrom(b.Peer.Addr(), port)
			c, err := p.Add(b, now)
			if errors.Is(err, ErrTaken) || errors.Is(err, ErrPlace) { // by chance
				continue
			}
			if err != nil {
				return channels, err
			}
			channels = append(channels, c)
		}
	}
	var first []*Channel
	shares := make([]Share, 9)
	for i, want := range []int{256, 128, 64, 32, 16, 8, 4, 2, 1} {
		channels, err := fill(&shares[i])
		if len(channels) != want || !errors.Is(err, ErrShare) {
			t.Errorf("account %d has %d channels (%v), want %d", i, len(channels), err, want)
		}
		if i == 0 {
			first = channels
		}
	}
	for _, c := range first {
		c.End(now)
	}
	if again, err := fill(&shares[0]); len(again) > 0 || !errors.Is(err, ErrShare) {
		t.Errorf("%d channels while the others rest (%v)", len(again), err)
	}
	now = now.Add(restFor)
	if again, err := fill(&shares[0]); len(again) != 129 || !errors.Is(err, ErrShare) {
		t.Errorf("%d channels after the rest (%v), want 129", len(again), err)
	}
	if rest, err := fill(nil); len(rest) != 257-129 || !errors.Is(err, ErrFull) {
		t.Errorf("%d channels without a share (%v), want %d", len(rest), err, 257-129)
	}
}
