package turnsrv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// udpClient starts a server and connects to it.
func udpClient(t *testing.T, config Config) (*rawClient, *testServer) {
	t.Helper()
	server := startServer(t, config)
	return dial(t, "udp", server.udp), server
}

func TestT02EmptyPeerAddress(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	c.allocate()
	for _, length := range []int{0, 1, 3, 4, 7, 9, 20} {
		for _, family := range []byte{0, 1, 2, 3} {
			if length == 20 && family == 2 {
				continue
			}
			value := make([]byte, length)
			if length > 1 {
				value[1] = family
			}
			c.write(c.message(stun.MethodSend, stun.ClassIndication, turntest.Attr(stun.AttrXORPeerAddress, value...),
				turntest.Attr(stun.AttrData, 'x')))
			c.silent()
			c.write(c.message(stun.MethodSend, stun.ClassIndication, turntest.Attr(stun.AttrData, 'x'),
				turntest.Attr(stun.AttrXORPeerAddress, value...)))
			c.silent()
			c.want(c.request(stun.MethodCreatePermission, turntest.Attr(stun.AttrXORPeerAddress, value...)), 400)
			c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.Attr(stun.AttrXORPeerAddress, value...)), 400)
		}
	}
}

func TestT12Unauthenticated(t *testing.T) {
	config := testConfig(t)
	config.ExpiredGrace = -1
	c, server := udpClient(t, config)
	good := turntest.TestCredential()
	c.want(c.unsigned(stun.MethodAllocate, turntest.TransportUDP), 401)
	tests := []struct {
		name string
		cred credential.Credential
	}{
		{"wrong password", credential.Credential{Username: good.Username, Password: "x"}},
		{"user without time stamp", credential.Credential{Username: "alice", Password: "x"}},
		{"empty user", credential.Credential{}},
		{"secret unknown", credential.Issuer{Secret: credential.NewSecret([]byte("other")), TTL: time.Hour}.Issue(time.Now())},
		{"expired", credential.Issuer{Secret: credential.NewSecret([]byte(turntest.TestSecret)), TTL: -time.Second}.Issue(time.Now())},
		{"time stamp 0", credential.Credential{Username: "0",
			Password: credential.Password(credential.NewSecret([]byte(turntest.TestSecret)), "0")}},
		{"time stamp 2^63", credential.Credential{Username: "9223372036854775808", Password: "x"}},
		{"user of 1480 bytes", credential.Credential{Username: strings.Repeat("1", 1480), Password: "x"}},
		{"NUL", credential.Credential{Username: good.Username + "\x00", Password: good.Password}},
		{"invalid UTF-8", credential.Credential{Username: "\xff\xfe", Password: good.Password}},
	}
	for _, test := range tests {
		c.use(test.cred)
		if a := c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 401); a.code != 401 {
			t.Errorf("%s: %d", test.name, a.code)
		}
	}
	c.use(good)
	c.realm = "example.com"
	c.key = credential.LongTermKey(good.Username, c.realm, good.Password)
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 401) // T19
	if n := server.Allocations(); n != 0 {
		t.Errorf("%d allocations were made", n)
	}
	c.realm = turntest.TestRealm
	c.use(good)
	c.allocate()
}

func TestT19AnotherRealm(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	c.challenge()
	c.realm = "example.com" // while the key is that of our realm
	c.want(c.request(stun.MethodRefresh), 401)
	c.use(c.credential) // with the key of the other one
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 401)
}

func TestCredentialForms(t *testing.T) {
	config := testConfig(t)
	secrets := []credential.Secret{credential.NewSecret([]byte("the new one")), credential.NewSecret([]byte(turntest.TestSecret))}
	config.Authenticator = credential.Verifier{Secrets: secrets}
	server := startServer(t, config)
	stamp := turntest.TestCredential().Username
	for _, secret := range secrets {
		for _, user := range []string{
			stamp, stamp + ":@alice:example.org", "alice:" + stamp,
			stamp + ".42", stamp + "-john", "+" + stamp, // as coturn accepts them
		} {
			c := dial(t, "udp", server.udp)
			c.use(credential.Credential{Username: user, Password: credential.Password(secret, user)})
			c.allocate()
		}
	}
}

func TestT13ErrorsAreComplete(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	c.challenge()
	// want looks at integrity and reason. FINGERPRINT comes back when it was sent.
	fingerprint := func(b *stun.Builder) { b.Fingerprint() }
	for _, sets := range [][]turntest.Set{{c.sign}, {c.sign, fingerprint}} {
		c.write(c.message(stun.MethodAllocate, stun.ClassRequest, sets...)) // without REQUESTED-TRANSPORT
		if a := c.want(c.answer(stun.MethodAllocate), 400); a.HasFingerprint != (len(sets) == 2) {
			t.Errorf("FINGERPRINT %v to a request with %d", a.HasFingerprint, len(sets)-1)
		}
	}
}

func TestMissingCredentialAttributes(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	c.want(c.unsigned(stun.MethodAllocate), 401)
	username := func(b *stun.Builder) { b.Text(stun.AttrUsername, c.credential.Username) }
	realm := func(b *stun.Builder) { b.Text(stun.AttrRealm, turntest.TestRealm) }
	nonce := func(b *stun.Builder) { b.Text(stun.AttrNonce, "nonce") }
	integrity := func(b *stun.Builder) { b.MessageIntegrity(c.key) }
	for _, sets := range [][]turntest.Set{{integrity}, {username, realm, integrity}, {username, nonce, integrity},
		{realm, nonce, integrity}} {
		if a := c.unsigned(stun.MethodAllocate, sets...); a.code != 400 || a.HasIntegrity() || a.attrs[stun.AttrNonce] != nil {
			t.Errorf("answered %d, integrity %v, nonce %q", a.code, a.HasIntegrity(), a.attrs[stun.AttrNonce])
		}
	}
}

func TestT14UnknownAttributes(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	a := c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Attr(0x7F01, 1), turntest.Attr(0x7F02),
		turntest.Attr(0x7F01, 2), turntest.Attr(0x8FFF, 3)), 420)
	if got := a.attrs[stun.AttrUnknownAttributes]; !bytes.Equal(got, []byte{0x7F, 0x01, 0x7F, 0x02}) {
		t.Errorf("UNKNOWN-ATTRIBUTES = %x", got)
	}
	if a := c.unsigned(stun.MethodBinding, turntest.Attr(0x7F01)); a.code != 420 {
		t.Errorf("Binding answered %d, want 420", a.code)
	}
	// The list has a limit, whatever the client sends.
	many := make([]turntest.Set, 300)
	for i := range many {
		many[i] = turntest.Attr(stun.AttrType(0x7000 + i))
	}
	if a := c.unsigned(stun.MethodBinding, many...); len(a.attrs[stun.AttrUnknownAttributes]) != 2*session.MaxUnknown {
		t.Errorf("UNKNOWN-ATTRIBUTES has %d bytes", len(a.attrs[stun.AttrUnknownAttributes]))
	}
}

func TestT15WhatFollowsIntegrity(t *testing.T) {
	c, server := udpClient(t, testConfig(t))
	c.allocate()
	c.write(c.message(stun.MethodRefresh, stun.ClassRequest, c.sign, turntest.Lifetime(0)))
	if a := c.want(c.answer(stun.MethodRefresh), 0); a.lifetime() != DefaultLifetime || server.Allocations() != 1 {
		t.Errorf("LIFETIME after the integrity attribute gave %v, %d allocations", a.lifetime(), server.Allocations())
	}
}

func TestT16FingerprintIsVerified(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	good := c.message(stun.MethodBinding, stun.ClassRequest, func(b *stun.Builder) { b.Fingerprint() })
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	c.write(bad)
	c.silent()
	c.write(good)
	if m := c.parse(c.read()); m.Class != stun.ClassSuccess || !m.HasFingerprint {
		t.Errorf("class %d, FINGERPRINT %v", m.Class, m.HasFingerprint)
	}
}

func TestT17NoAllocation(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	c.want(c.request(stun.MethodRefresh), 437)
	c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 437)
	c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(turntest.PublicPeer)), 437)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(turntest.PublicPeer)), 437)
	c.allocate()
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 437)
	if a := c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0); a.lifetime() != 0 {
		t.Errorf("Refresh with lifetime 0 answered %v", a.lifetime())
	}
	c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 437)
}

func TestT18AnotherUser(t *testing.T) {
	c, server := udpClient(t, testConfig(t))
	c.allocate()
	user := turntest.TestCredential().Username + ":mallory"
	secret := credential.NewSecret([]byte(turntest.TestSecret))
	c.use(credential.Credential{Username: user, Password: credential.Password(secret, user)})
	c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 441)
	c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(turntest.PublicPeer)), 441)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(turntest.PublicPeer)), 441)
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 437)
	if server.Allocations() != 1 {
		t.Error("another user ended the allocation")
	}
}

func TestT20CreatePermissionIsAtomic(t *testing.T) {
	c, server := udpClient(t, testConfig(t))
	c.allocate()
	c.want(c.request(stun.MethodCreatePermission), 400)
	// 125 peers, one of them refused, at either end.
	peers := make([]turntest.Set, 125)
	for i := range peers {
		peers[i] = turntest.PeerAddr(netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 1, 1, byte(i)}), 40000))
	}
	for _, at := range []int{0, 62, 124} {
		denied := append([]turntest.Set(nil), peers...)
		denied[at] = turntest.PeerAddr(netip.MustParseAddrPort("10.0.0.1:40000"))
		c.want(c.request(stun.MethodCreatePermission, denied...), 403)
	}
	c.write(c.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(turntest.PublicPeer),
		turntest.Attr(stun.AttrData, 'x')))
	c.silent()
	if got := server.Counters().Dropped[event.DropNoPermission]; got != 1 {
		t.Errorf("%d packets found no permission, want 1", got)
	}
	c.want(c.request(stun.MethodCreatePermission, peers...), 0)
}

func TestT21DeniedChannel(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	c.allocate()
	for _, denied := range []string{"10.0.0.1:40000", "169.254.169.254:80", "1.1.1.1:53", "1.1.1.1:11211"} {
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(netip.MustParseAddrPort(denied))), 403)
	}
}

func TestT22PeerOfOtherFamily(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	c.allocate()
	for _, other := range []string{"[2606:4700::2]:40000", "[::ffff:1.1.1.1]:40000"} {
		c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(turntest.PublicPeer),
			turntest.PeerAddr(netip.MustParseAddrPort(other))), 443)
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(netip.MustParseAddrPort(other))), 443)
	}
	c.want(c.request(stun.MethodRefresh, turntest.Attr(stun.AttrRequestedAddressFamily, 2, 0, 0, 0)), 443)
	c.want(c.request(stun.MethodRefresh, turntest.Attr(stun.AttrRequestedAddressFamily, 1, 0, 0, 0)), 0)
}

func TestT23RequestedAddressFamily(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	family := func(f byte) turntest.Set { return turntest.Attr(stun.AttrRequestedAddressFamily, f, 0, 0, 0) }
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, family(2)), 440)
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, family(3)), 440)
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Attr(stun.AttrRequestedAddressFamily, 1)), 400)
	c.allocate(family(1))

	config := testConfig(t)
	config.Relay = turntest.TestRelay(t, relay.Config{
		Addresses: []relay.Address{{Bind: turntest.Loopback, Advertise: turntest.Loopback},
			{Bind: netip.IPv6Loopback(), Advertise: netip.IPv6Loopback()}},
		Peers: peer.New(peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("::1/128")}}),
	})
	c, _ = udpClient(t, config)
	if relayed := c.allocate(family(2)); !relayed.Addr().Is6() {
		t.Errorf("relayed address %v", relayed)
	}
	c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(turntest.PublicPeer)), 443)
	c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(netip.MustParseAddrPort("[::ffff:127.0.0.1]:40000"))), 443)
	c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(netip.MustParseAddrPort("[::1]:40000"))), 0)
}

func TestT25RequestedTransport(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	c.want(c.request(stun.MethodAllocate, turntest.Attr32(stun.AttrRequestedTransport, 6<<24)), 442)
	c.want(c.request(stun.MethodAllocate), 400)
	c.want(c.request(stun.MethodAllocate, turntest.Attr(stun.AttrRequestedTransport, 17)), 400)
	c.allocate()
}

func TestT26EvenPort(t *testing.T) {
	c, server := udpClient(t, testConfig(t))
	a := c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Attr(stun.AttrEvenPort, 0x80)), 0)
	token := a.attrs[stun.AttrReservationToken]
	relayed := c.relayed(a)
	if relayed.Port()%2 != 0 || len(token) != 8 {
		t.Fatalf("relayed %v, token %x", relayed, token)
	}
	second := dial(t, "udp", server.udp)
	second.want(second.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Attr(stun.AttrReservationToken, token...),
		turntest.Attr(stun.AttrEvenPort, 0)), 400)
	second.want(second.request(stun.MethodAllocate, turntest.TransportUDP,
		turntest.Attr(stun.AttrReservationToken, token[:7]...)), 400)
	second.want(second.request(stun.MethodAllocate, turntest.TransportUDP,
		turntest.Attr(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)), 508)
	if next := second.allocate(turntest.Attr(stun.AttrReservationToken, token...)); next.Port() != relayed.Port()+1 {
		t.Errorf("the token gave %v beside %v", next, relayed)
	}
	third := dial(t, "udp", server.udp)
	third.want(third.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Attr(stun.AttrReservationToken, token...)), 508)
	third.want(third.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Attr(stun.AttrEvenPort)), 400)
	a = third.want(third.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Attr(stun.AttrEvenPort, 0)), 0)
	if third.relayed(a).Port()%2 != 0 || a.attrs[stun.AttrReservationToken] != nil {
		t.Errorf("EVEN-PORT without R gave %v, token %x", third.relayed(a), a.attrs[stun.AttrReservationToken])
	}
}

// TestT26ReservationEndsWithItsAllocation checks that a client cannot hold more ports than its quota allows by reserving one
// after another.
func TestT26ReservationEndsWithItsAllocation(t *testing.T) {
	config := testConfig(t)
	config.Quotas.MaxAllocationsPerUser = 1
	network := turntest.NewMemNet()
	config.Relay = turntest.TestRelay(t, relay.Config{Listen: network.Listen, Addresses: []relay.Address{turntest.Address4},
		MinPort: 61000, MaxPort: 61003})
	c, _ := udpClient(t, config)
	for range 10 {
		c.allocate(turntest.Attr(stun.AttrEvenPort, 0x80))
		c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
	}
	network.Mu.Lock()
	defer network.Mu.Unlock()
	if n := len(network.Conns); n != 0 {
		t.Errorf("%d ports are held without an allocation", n)
	}
}

func TestT28Lifetime(t *testing.T) {
	config := testConfig(t)
	config.MaxLifetime = 30 * time.Minute
	server := startServer(t, config)
	tests := []struct {
		sets            []turntest.Set
		want, refreshed time.Duration
	}{
		{nil, 10 * time.Minute, 10 * time.Minute},
		{[]turntest.Set{turntest.Lifetime(0)}, 10 * time.Minute, 0}, // which ends it
		{[]turntest.Set{turntest.Lifetime(1)}, 10 * time.Minute, 10 * time.Minute},
		{[]turntest.Set{turntest.Lifetime(599)}, 10 * time.Minute, 10 * time.Minute},
		{[]turntest.Set{turntest.Lifetime(777)}, 777 * time.Second, 777 * time.Second},
		{[]turntest.Set{turntest.Lifetime(3600)}, 30 * time.Minute, 30 * time.Minute},
		{[]turntest.Set{turntest.Lifetime(0xFFFFFFFF)}, 30 * time.Minute, 30 * time.Minute},
	}
	for _, test := range tests {
		c := dial(t, "udp", server.udp)
		a := c.want(c.request(stun.MethodAllocate, append([]turntest.Set{turntest.TransportUDP}, test.sets...)...), 0)
		if a.lifetime() != test.want {
			t.Errorf("Allocate gave %v, want %v", a.lifetime(), test.want)
		}
		a = c.want(c.request(stun.MethodRefresh, test.sets...), 0)
		if a.lifetime() != test.refreshed {
			t.Errorf("Refresh gave %v, want %v", a.lifetime(), test.refreshed)
		}
	}
}

func TestT29ChannelNumbers(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	c.allocate()
	for _, number := range []uint16{0, 1, 0x3FFF, 0x8000, 0xFFFF} {
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(number), turntest.PeerAddr(turntest.PublicPeer)), 400)
	}
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000),
		turntest.PeerAddr(netip.AddrPortFrom(turntest.PublicPeer.Addr(), 0))), 400)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000)), 400)
	c.want(c.request(stun.MethodChannelBind, turntest.PeerAddr(turntest.PublicPeer)), 400)
	c.want(c.request(stun.MethodChannelBind, turntest.Attr(stun.AttrChannelNumber, 0x40, 0),
		turntest.PeerAddr(turntest.PublicPeer)), 400)
	// Debian 12's turnutils_uclient takes numbers up to 0x7FFF.
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x7FFF), turntest.PeerAddr(turntest.PublicPeer)), 0)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x7FFF), turntest.PeerAddr(turntest.PublicPeer)), 0)
	other := netip.AddrPortFrom(turntest.PublicPeer.Addr(), 40001)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x7FFF), turntest.PeerAddr(other)), 400)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x7FFE), turntest.PeerAddr(turntest.PublicPeer)), 400)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(other)), 0)

	config := testConfig(t)
	config.StrictChannels = true
	c, _ = udpClient(t, config)
	c.allocate()
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x5000), turntest.PeerAddr(turntest.PublicPeer)), 400)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4FFF), turntest.PeerAddr(turntest.PublicPeer)), 0)
}

func TestT31Limits(t *testing.T) {
	config := testConfig(t)
	config.MaxPermissions, config.MaxChannels = 3, 2
	c, _ := udpClient(t, config)
	c.allocate()
	addr := func(i byte) turntest.Set {
		return turntest.PeerAddr(netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 1, 1, i}), 40000))
	}
	c.want(c.request(stun.MethodCreatePermission, addr(1), addr(2), addr(3), addr(4)), 508)
	c.want(c.request(stun.MethodCreatePermission, addr(1), addr(2), addr(2), addr(2)), 0)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), addr(3)), 0)
	c.want(c.request(stun.MethodCreatePermission, addr(4)), 508)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4001), addr(4)), 508)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4001), addr(1)), 0)
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4002), addr(2)), 508)
	c.want(c.request(stun.MethodCreatePermission, addr(3), addr(1)), 0) // existing permissions can be refreshed
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), addr(3)), 0)
}

func TestT32Nonce(t *testing.T) {
	c, server := udpClient(t, testConfig(t))
	good := c.challenge()
	if len(good) > 16 {
		t.Errorf("nonce of %d bytes", len(good))
	}
	flipped := bytes.Clone(good)
	flipped[3] ^= 1
	for _, bad := range [][]byte{
		{}, good[:15], append(bytes.Clone(good), 'x'), bytes.Repeat([]byte("x"), 65), bytes.Repeat([]byte("x"), 1480), flipped,
	} {
		c.nonce = bad
		c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 438)
	}
	// A nonce is invalid at another address.
	other := dial(t, "udp", server.udp)
	other.nonce = good
	other.want(other.request(stun.MethodAllocate, turntest.TransportUDP), 438)
	c.nonce = good
	c.want(c.request(stun.MethodRefresh), 437)
}

func TestUnauthenticatedAnswersAreSmall(t *testing.T) {
	config := testConfig(t)
	config.Realm = strings.Repeat("r", 20)
	c, _ := udpClient(t, config)
	for _, method := range []stun.Method{stun.MethodAllocate, stun.MethodRefresh, stun.MethodCreatePermission,
		stun.MethodChannelBind} {
		if a := c.unsigned(method, turntest.TransportUDP); len(a.raw) > 72 {
			t.Errorf("28 bytes of %v draw %d", method, len(a.raw))
		}
	}
	if a := c.unsigned(stun.MethodBinding); len(a.raw) > 72 {
		t.Errorf("a Binding request draws %d bytes", len(a.raw))
	}
	if a := c.unsigned(stun.MethodAllocate, turntest.TransportUDP,
		turntest.Attr(stun.AttrSoftware, make([]byte, 60)...)); string(a.attrs[stun.AttrErrorCode][4:]) != "Unauthenticated" {
		t.Errorf("there was room for a reason, but it is %q", a.attrs[stun.AttrErrorCode][4:])
	}
}

func TestT37Quota(t *testing.T) {
	config := testConfig(t)
	config.MaxAllocations, config.MaxAllocationsPerUser = 3, 2
	server := startServer(t, config)
	user := func(name string) *rawClient {
		c := dial(t, "udp", server.udp)
		username := turntest.TestCredential().Username + ":" + name
		secret := credential.NewSecret([]byte(turntest.TestSecret))
		c.use(credential.Credential{Username: username, Password: credential.Password(secret, username)})
		return c
	}
	alice := user("alice")
	alice.allocate()
	user("alice").allocate()
	third := user("alice")
	third.want(third.request(stun.MethodAllocate, turntest.TransportUDP), 486)
	user("bob").allocate()
	carol := user("carol")
	carol.want(carol.request(stun.MethodAllocate, turntest.TransportUDP), 486)
	alice.want(alice.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
	carol.allocate()
	// A request that fails after the quota check does not count towards the quota.
	alice.want(alice.request(stun.MethodRefresh), 437)
	dave := user("dave")
	for range 5 {
		dave.want(dave.request(stun.MethodAllocate, turntest.TransportUDP,
			turntest.Attr(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)), 486)
	}
	carol.want(carol.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
	for range 5 {
		dave.want(dave.request(stun.MethodAllocate, turntest.TransportUDP,
			turntest.Attr(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)), 508)
	}
	dave.allocate()
}

func TestT43Software(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	if a := c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 0); a.attrs[stun.AttrSoftware] != nil {
		t.Errorf("SOFTWARE is %q by default", a.attrs[stun.AttrSoftware])
	}
	config := testConfig(t)
	config.Software = "mailturn"
	c, _ = udpClient(t, config)
	if a := c.unsigned(stun.MethodAllocate, turntest.TransportUDP); a.attrs[stun.AttrSoftware] != nil {
		t.Error("SOFTWARE in an unauthenticated answer")
	}
	if a := c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 0); string(a.attrs[stun.AttrSoftware]) != "mailturn" {
		t.Errorf("SOFTWARE is %q", a.attrs[stun.AttrSoftware])
	}
}

func TestT44RetransmittedAllocate(t *testing.T) {
	c, server := udpClient(t, testConfig(t))
	c.challenge()
	request := c.message(stun.MethodAllocate, stun.ClassRequest, turntest.TransportUDP, c.sign)
	c.write(request)
	first := c.want(c.answer(stun.MethodAllocate), 0)
	c.write(request)
	if again := c.answer(stun.MethodAllocate); !bytes.Equal(again.raw, first.raw) {
		t.Errorf("the answer to the retransmission is %x, want %x", again.raw, first.raw)
	}
	if server.Allocations() != 1 {
		t.Errorf("%d allocations", server.Allocations())
	}
}

// TestRetransmittedVariants is TestT44RetransmittedAllocate for responses with further attributes, which are built again.
func TestRetransmittedVariants(t *testing.T) {
	twoWithRoomForOne := familiesConfig(t, turntest.Address4, turntest.Address6)
	twoWithRoomForOne.Quotas.MaxAllocationsPerUser = 1
	for name, variant := range map[string]struct {
		config Config
		set    turntest.Set
	}{
		"lifetime":            {testConfig(t), turntest.Lifetime(1234)},
		"reservation":         {testConfig(t), turntest.Attr(stun.AttrEvenPort, 0x80)},
		"dual":                {familiesConfig(t, turntest.Address4, turntest.Address6), turntest.Additional},
		"dual without IPv6":   {familiesConfig(t, turntest.Address4), turntest.Additional},
		"dual without IPv4":   {familiesConfig(t, turntest.Address6), turntest.Additional},
		"dual beyond a quota": {twoWithRoomForOne, turntest.Additional},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := udpClient(t, variant.config)
			c.challenge()
			request := c.message(stun.MethodAllocate, stun.ClassRequest, turntest.TransportUDP, variant.set, c.sign)
			c.write(request)
			first := c.want(c.answer(stun.MethodAllocate), 0)
			c.write(request)
			if again := c.answer(stun.MethodAllocate); !bytes.Equal(again.raw, first.raw) {
				t.Errorf("the answer to the retransmission is %x, want %x", again.raw, first.raw)
			}
		})
	}
}

func TestDataBothWays(t *testing.T) {
	c, server := udpClient(t, testConfig(t))
	c.allocate()
	far := udp.AddrPortOf(echo(t))
	data := func(s string) turntest.Set { return turntest.Attr(stun.AttrData, []byte(s)...) }
	c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(far)), 0)
	for _, payload := range []string{"", "x", "hello", strings.Repeat("y", 1200)} {
		c.write(c.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(far), data(payload)))
		m := c.parse(c.read())
		if m.Method != stun.MethodData || m.Class != stun.ClassIndication {
			t.Fatalf("got %v class %d", m.Method, m.Class)
		}
		for typ, value := range m.Attributes() {
			switch typ {
			case stun.AttrData:
				if string(value) != payload {
					t.Errorf("got %d bytes back, want %d", len(value), len(payload))
				}
			case stun.AttrXORPeerAddress:
				if got, err := stun.ParseXORAddress(value, m.TransactionID); err != nil || got != far {
					t.Errorf("from %v, want %v", got, far)
				}
			}
		}
	}
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4001), turntest.PeerAddr(far)), 0)
	for _, payload := range []string{"", "x", "hello", strings.Repeat("y", 1200)} {
		c.write(turntest.ChannelData(0x4001, payload))
		// T11: no padding over datagrams.
		want := append(binary.BigEndian.AppendUint16([]byte{0x40, 0x01}, uint16(len(payload))), payload...)
		if got := c.read(); !bytes.Equal(got, want) {
			t.Errorf("got %x back, want %x", got, want)
		}
	}
	// Send indications with an unknown comprehension-required attribute, or without a required one, are dropped.
	for _, sets := range [][]turntest.Set{
		{turntest.PeerAddr(far)}, {data("x")}, {turntest.PeerAddr(far), data("x"), turntest.Attr(0x7F01)},
		{turntest.PeerAddr(turntest.PublicPeer), data("x")},
	} {
		c.write(c.message(stun.MethodSend, stun.ClassIndication, sets...))
		c.silent()
	}
	c.write(turntest.ChannelData(0x4002, "not bound"))
	c.silent()
	if got := server.Counters().Dropped; got[event.DropMalformed] != 3 || got[event.DropNoPermission] != 1 ||
		got[event.DropNoChannel] != 1 {
		t.Errorf("dropped %v", got)
	}
}

func TestT27DontFragment(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	if !relay.CanDontFragment {
		c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Attr(stun.AttrDontFragment)), 420)
		return
	}
	c.allocate(turntest.Attr(stun.AttrDontFragment))
	far := udp.AddrPortOf(echo(t))
	c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(far)), 0)
	c.write(c.message(stun.MethodSend, stun.ClassIndication, turntest.Attr(stun.AttrDontFragment), turntest.PeerAddr(far),
		turntest.Attr(stun.AttrData, 'x')))
	if m := c.parse(c.read()); m.Method != stun.MethodData {
		t.Errorf("got %v back", m.Method)
	}
}

func TestTwoCallersOnOneServer(t *testing.T) {
	config := testConfig(t)
	public := netip.MustParseAddr("203.0.113.7") // of a NAT: on no interface, and refused by default
	config.Relay = turntest.TestRelay(t, relay.Config{
		Addresses: []relay.Address{{Bind: turntest.Loopback, Advertise: public}},
		Peers:     peer.New(peer.Rules{Own: []netip.Addr{turntest.Loopback, public}}),
	})
	server := startServer(t, config)
	alice, bob := dial(t, "udp", server.udp), dial(t, "tcp", server.tcp)
	fromAlice, fromBob := alice.allocate(), bob.allocate()
	if fromAlice.Addr() != public {
		t.Fatalf("relayed address %v", fromAlice)
	}
	alice.want(alice.request(stun.MethodCreatePermission, turntest.PeerAddr(fromBob)), 0)
	bob.want(bob.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(fromAlice)), 0)
	alice.write(alice.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(fromBob),
		turntest.Attr(stun.AttrData, []byte("hello bob")...)))
	if got, want := bob.read(), turntest.ChannelData(0x4000, "hello bob"); !bytes.Equal(got, want) {
		t.Errorf("bob got %q, want %q", got, want)
	}
	bob.write(turntest.ChannelData(0x4000, "hello alice"))
	if m := alice.parse(alice.read()); m.Method != stun.MethodData {
		t.Errorf("alice got %v", m.Method)
	}
	// A channel to a port of the same address that is not a relayed address is refused, and a packet to it is dropped.
	closed := netip.AddrPortFrom(public, server.udp.Port())
	alice.want(alice.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(closed)), 403)
	alice.write(alice.message(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(closed), turntest.Attr(stun.AttrData, 'x')))
	alice.silent()
	if got := server.Counters().Dropped[event.DropRefusedPeer]; got != 1 {
		t.Errorf("%d packets to refused peers, want 1", got)
	}
}

func TestJunkIsDropped(t *testing.T) {
	c, server := udpClient(t, testConfig(t))
	good := c.message(stun.MethodBinding, stun.ClassRequest)
	junk := [][]byte{{}, {0}, good[:19], bytes.Repeat([]byte{0xFF}, 1000), bytes.Repeat([]byte{0x80}, 65507),
		[]byte("GET / HTTP/1.1\r\n\r\n"), make([]byte, 65507)}
	for _, b := range junk {
		c.write(b)
		c.silent()
	}
	for _, class := range []stun.Class{stun.ClassSuccess, stun.ClassError} {
		c.write(c.message(stun.MethodBinding, class))
		c.silent()
	}
	c.write(c.message(0x3FF, stun.ClassRequest))
	c.silent()
	c.write(c.message(stun.MethodData, stun.ClassIndication))
	c.silent()
	c.write(c.message(stun.MethodBinding, stun.ClassIndication)) // a keep-alive, not counted
	c.silent()
	if got := server.Counters().Dropped; got[event.DropMalformed] != uint64(len(junk)) || got[event.DropUnexpected] != 4 {
		t.Errorf("dropped %v", got)
	}
}

// TestT36JunkIsNotLogged checks that unauthenticated packets cause no log lines.
func TestT36JunkIsNotLogged(t *testing.T) {
	var log syncBuffer
	config := testConfig(t)
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	server := startServer(t, config)
	c := dial(t, "udp", server.udp)
	for i := range 50 {
		c.write(bytes.Repeat([]byte{byte(i)}, 30))
		c.use(credential.Credential{Username: fmt.Sprintf("mallory%d", i), Password: "x"})
		c.request(stun.MethodAllocate, turntest.TransportUDP)
	}
	if lines := strings.Count(log.String(), "\n"); lines > 0 {
		t.Errorf("%d lines in the log: %.200s", lines, log.String())
	}
}

// syncBuffer is a bytes.Buffer that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestT07WholeOrNotAtAll sends datagrams longer than the 1600 bytes that pion reads from a peer.
func TestT07WholeOrNotAtAll(t *testing.T) {
	c, _ := udpClient(t, testConfig(t))
	relayed := c.allocate()
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(udp.AddrPortOf(peer.LocalAddr()))), 0)
	for _, size := range []int{1599, 1601, 9000, 65000, 1} {
		if _, err := peer.WriteToUDPAddrPort(make([]byte, size), relayed); err != nil {
			t.Fatal(err)
		}
	}
	for last := 0; last != 1; {
		_, data, err := stun.ParseChannelData(c.read())
		if err != nil {
			t.Fatal(err)
		}
		switch last = len(data); last {
		case 1599, 1601, 9000, 65000, 1:
		default:
			t.Fatalf("a datagram was cut to %d bytes", last)
		}
	}
}
