package session

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestBadInputSizes sends messages of every size that is too short for STUN, in slices that end where the message does, and
// with each first byte. There is no response, and nothing is read beyond the end.
func TestBadInputSizes(t *testing.T) {
	b := newBareSession(t)
	now := time.Unix(1758650868, 0)
	s := newSigner(b, now)
	b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
	whole := s.message(stun.MethodRefresh, 2)
	for size := range stun.HeaderLen {
		for first := range 256 {
			in := slices.Clip(bytes.Clone(whole[:size]))
			if size > 0 {
				in[0] = byte(first)
			}
			if answer := b.take(in, s.from, now); answer != nil || b.relayed() != 0 {
				t.Errorf("%x draws %x, and %d packets", in, answer, b.relayed())
			}
		}
	}
	// Truncated at any position, and with an incorrect length.
	for size := range whole {
		if answer := b.take(slices.Clip(whole[:size:size]), s.from, now); answer != nil || b.relayed() != 0 {
			t.Errorf("the first %d bytes draw %x, and %d packets", size, answer, b.relayed())
		}
	}
	for _, length := range []uint16{0, 1, 4, uint16(len(whole)), 0xFFFC, 0xFFFF} {
		in := bytes.Clone(whole)
		in[2], in[3] = byte(length>>8), byte(length)
		if answer := b.take(in, s.from, now); answer != nil || b.relayed() != 0 {
			t.Errorf("a length of %d draws %x, and %d packets", length, answer, b.relayed())
		}
	}
}

// TestBadInputPeerAtTheEnd puts peer addresses of every length and family at the end of messages of 32 to 128 bytes, where
// reading too much would exceed the slice.
func TestBadInputPeerAtTheEnd(t *testing.T) {
	b := newBareSession(t)
	now := time.Unix(1758650868, 0)
	s := newSigner(b, now)
	b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
	sent := uint64(0)
	for size := 32; size <= 128; size += 16 {
		for _, length := range []int{0, 1, 3, 4, 7, 8, 20} {
			for family := range byte(4) {
				if length == 8 && family == 1 || length == 20 && family == 2 {
					continue // a good one
				}
				value := make([]byte, length)
				if length > 1 {
					value[1] = family
				}
				padding := size - stun.HeaderLen - 4 - (length+3)&^3 - 4
				if padding < 0 {
					continue
				}
				var send stun.Builder
				send.Start(stun.MethodSend, stun.ClassIndication, stun.TransactionID{1})
				send.Attr(stun.AttrData, make([]byte, padding))
				send.Attr(stun.AttrXORPeerAddress, value)
				in := slices.Clip(bytes.Clone(send.Bytes()))
				if len(in) != size {
					t.Fatalf("the message has %d bytes, want %d", len(in), size)
				}
				sent++
				if answer := b.take(in, s.from, now); answer != nil || b.relayed() != 0 {
					t.Errorf("%x draws %x, and %d packets", in, answer, b.relayed())
				}
			}
		}
	}
	// A valid address after an invalid one does not make the request valid.
	good := netip.MustParseAddrPort("127.0.0.1:40000")
	b.take(s.message(stun.MethodCreatePermission, 2, turntest.PeerAddr(good)), s.from, now)
	var send stun.Builder
	for _, bad := range [][]byte{nil, {}} {
		send.Start(stun.MethodSend, stun.ClassIndication, stun.TransactionID{1})
		if bad != nil {
			send.Attr(stun.AttrXORPeerAddress, bad)
			sent++
		}
		send.XORAddress(stun.AttrXORPeerAddress, good)
		send.Text(stun.AttrData, "x")
		if got, want := b.relays(send.Bytes(), s.from, now), bad == nil; got != want {
			t.Errorf("%x is relayed: %v, want %v", send.Bytes(), got, want)
		}
	}
	if got := b.dropped(event.DropMalformed); got != sent || sent < 100 {
		t.Errorf("%d of %d were counted", got, sent)
	}
}
