package turnsrv

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestBadInputAttributes sends attributes that are duplicate, empty, truncated, too long, or too many.
func TestBadInputAttributes(t *testing.T) {
	c, server := udpClient(t, testConfig(t))
	c.challenge()
	for _, value := range [][]byte{{}, {1}, {0, 0, 2}, {0, 0, 2, 0x58, 0}} {
		c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Attr(stun.AttrLifetime, value...)), 400)
	}
	a := c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Lifetime(777), turntest.Lifetime(1234),
		turntest.Attr32(stun.AttrRequestedTransport, 6<<24)), 0)
	if a.lifetime() != 777*time.Second {
		t.Errorf("of two LIFETIMEs %v counts", a.lifetime())
	}
	for _, value := range [][]byte{{}, {1}, {0, 0, 2}, {0, 0, 2, 0x58, 0}} {
		c.want(c.request(stun.MethodRefresh, turntest.Attr(stun.AttrLifetime, value...)), 400)
		c.want(c.request(stun.MethodRefresh, turntest.Attr(stun.AttrRequestedAddressFamily, value...)), 400)
		c.want(c.request(stun.MethodChannelBind, turntest.Attr(stun.AttrChannelNumber, value...),
			turntest.PeerAddr(turntest.PublicPeer)), 400)
	}
	many := make([]turntest.Set, 375)
	for i := range many {
		many[i] = turntest.Attr(0x8100) // comprehension-optional
	}
	c.want(c.request(stun.MethodRefresh, many...), 0)
	if got := server.Counters().Dropped[event.DropMalformed]; got != 0 {
		t.Errorf("%d messages were malformed", got)
	}
}

// TestBadInputCredentials signs with unknown names, realms, nonces and keys.
func TestBadInputCredentials(t *testing.T) {
	config := testConfig(t)
	config.MaxGuesses = -1
	c, server := udpClient(t, config)
	nonce := bytes.Clone(c.challenge())
	good := turntest.TestCredential()
	long := strings.Repeat("x", 1480)
	for _, username := range []string{"", "0", "-1", "+1", "01", "1758650868", "9223372036854775807", "9223372036854775808",
		"99999999999999999999", "\x00", good.Username + "\x00", "\xff\xfe", long} {
		secret := credential.NewSecret([]byte(turntest.TestSecret))
		c.use(credential.Credential{Username: username, Password: credential.Password(secret, username)})
		c.nonce = nonce
		c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 401)
	}
	for _, realm := range []string{"", "\x00", turntest.TestRealm + "\x00", "\xff\xfe", long, strings.ToUpper(turntest.TestRealm)} {
		c.realm, c.nonce = realm, nonce
		c.use(good)
		c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 401)
	}
	c.realm = turntest.TestRealm
	c.use(good)
	for _, length := range []int{0, 19, 21, 32} {
		c.write(c.message(stun.MethodAllocate, stun.ClassRequest, turntest.TransportUDP, func(b *stun.Builder) {
			b.Text(stun.AttrUsername, good.Username)
			b.Text(stun.AttrRealm, turntest.TestRealm)
			b.Attr(stun.AttrNonce, nonce)
			b.Attr(stun.AttrMessageIntegrity, make([]byte, length))
		}))
		c.want(c.answer(stun.MethodAllocate), 401)
	}
	// The first of two integrity attributes counts.
	wrong := func(b *stun.Builder) { b.MessageIntegrity([]byte("another key")) }
	named := func(b *stun.Builder) {
		b.Text(stun.AttrUsername, good.Username)
		b.Text(stun.AttrRealm, turntest.TestRealm)
		b.Attr(stun.AttrNonce, nonce)
	}
	right := func(b *stun.Builder) { b.MessageIntegrity(c.key) }
	c.write(c.message(stun.MethodAllocate, stun.ClassRequest, turntest.TransportUDP, named, wrong, right))
	c.want(c.answer(stun.MethodAllocate), 401)
	if n := server.Allocations(); n != 0 {
		t.Errorf("%d allocations were made", n)
	}
	c.write(c.message(stun.MethodAllocate, stun.ClassRequest, turntest.TransportUDP, named, right, wrong))
	c.want(c.answer(stun.MethodAllocate), 0)
}
