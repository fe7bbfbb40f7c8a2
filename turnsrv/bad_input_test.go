package turnsrv

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestBadInputSizes sends every size that is too short for STUN, in slices that end where the message does, and with each
// first byte: nothing is answered, and nothing is read behind the end.
func TestBadInputSizes(t *testing.T) {
	b := newBareFront(t)
	now := time.Unix(1758650868, 0)
	s := newSigner(b, now)
	b.take(s.message(stun.MethodAllocate, 1, transportUDP), s.from, now)
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
	// Cut anywhere, and with a length that lies.
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
// reading too much would be reading what is not there.
func TestBadInputPeerAtTheEnd(t *testing.T) {
	b := newBareFront(t)
	now := time.Unix(1758650868, 0)
	s := newSigner(b, now)
	b.take(s.message(stun.MethodAllocate, 1, transportUDP), s.from, now)
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
	// A good one behind a bad one does not make up for it.
	good := netip.MustParseAddrPort("127.0.0.1:40000")
	b.take(s.message(stun.MethodCreatePermission, 2, peerAddr(good)), s.from, now)
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
	if got := b.server.Counters().Dropped[DropMalformed]; got != sent || sent < 100 {
		t.Errorf("%d of %d were counted", got, sent)
	}
}

// TestBadInputAttributes sends attributes that are there twice, empty, cut, too long, or too many.
func TestBadInputAttributes(t *testing.T) {
	c, server := udpClient(t, testConfig(t))
	c.challenge()
	for _, value := range [][]byte{{}, {1}, {0, 0, 2}, {0, 0, 2, 0x58, 0}} {
		c.want(c.request(stun.MethodAllocate, transportUDP, attr(stun.AttrLifetime, value...)), 400)
	}
	a := c.want(c.request(stun.MethodAllocate, transportUDP, lifetime(777), lifetime(1234), attr32(stun.AttrRequestedTransport, 6<<24)), 0)
	if a.lifetime() != 777*time.Second {
		t.Errorf("of two LIFETIMEs %v counts", a.lifetime())
	}
	for _, value := range [][]byte{{}, {1}, {0, 0, 2}, {0, 0, 2, 0x58, 0}} {
		c.want(c.request(stun.MethodRefresh, attr(stun.AttrLifetime, value...)), 400)
		c.want(c.request(stun.MethodRefresh, attr(stun.AttrRequestedAddressFamily, value...)), 400)
		c.want(c.request(stun.MethodChannelBind, attr(stun.AttrChannelNumber, value...), peerAddr(publicPeer)), 400)
	}
	many := make([]set, 375)
	for i := range many {
		many[i] = attr(0x8100) // of those that need not be understood
	}
	c.want(c.request(stun.MethodRefresh, many...), 0)
	if got := server.Counters().Dropped[DropMalformed]; got != 0 {
		t.Errorf("%d messages were malformed", got)
	}
}

// TestBadInputCredentials signs with names, realms, nonces and integrities that nobody has.
func TestBadInputCredentials(t *testing.T) {
	config := testConfig(t)
	config.MaxGuesses = -1
	c, server := udpClient(t, config)
	nonce := bytes.Clone(c.challenge())
	good := testCredential()
	long := strings.Repeat("x", 1480)
	for _, username := range []string{"", "0", "-1", "+1", "01", "1758650868", "9223372036854775807", "9223372036854775808", "99999999999999999999", "\x00", good.Username + "\x00", "\xff\xfe", long} {
		c.use(credential.Credential{Username: username, Password: credential.Password(credential.NewSecret([]byte(testSecret)), username)})
		c.nonce = nonce
		c.want(c.request(stun.MethodAllocate, transportUDP), 401)
	}
	for _, realm := range []string{"", "\x00", testRealm + "\x00", "\xff\xfe", long, strings.ToUpper(testRealm)} {
		c.realm, c.nonce = realm, nonce
		c.use(good)
		c.want(c.request(stun.MethodAllocate, transportUDP), 401)
	}
	c.realm = testRealm
	c.use(good)
	for _, length := range []int{0, 19, 21, 32} {
		c.write(c.message(stun.MethodAllocate, stun.ClassRequest, transportUDP, func(b *stun.Builder) {
			b.Text(stun.AttrUsername, good.Username)
			b.Text(stun.AttrRealm, testRealm)
			b.Attr(stun.AttrNonce, nonce)
			b.Attr(stun.AttrMessageIntegrity, make([]byte, length))
		}))
		c.want(c.answer(stun.MethodAllocate), 401)
	}
	// Of two integrities the first one counts, for good and for bad.
	wrong := func(b *stun.Builder) { b.MessageIntegrity([]byte("another key")) }
	named := func(b *stun.Builder) {
		b.Text(stun.AttrUsername, good.Username)
		b.Text(stun.AttrRealm, testRealm)
		b.Attr(stun.AttrNonce, nonce)
	}
	right := func(b *stun.Builder) { b.MessageIntegrity(c.key) }
	c.write(c.message(stun.MethodAllocate, stun.ClassRequest, transportUDP, named, wrong, right))
	c.want(c.answer(stun.MethodAllocate), 401)
	if n := server.Allocations(); n != 0 {
		t.Errorf("%d allocations were made", n)
	}
	c.write(c.message(stun.MethodAllocate, stun.ClassRequest, transportUDP, named, right, wrong))
	c.want(c.answer(stun.MethodAllocate), 0)
}
