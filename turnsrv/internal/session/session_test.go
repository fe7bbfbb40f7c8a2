package session

import (
	"bytes"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// bareSession is a session without a link.
type bareSession struct {
	*Session
	sent    [][]byte // data to clients
	discard bool     // do not keep sent
	refuse  error    // of send, for all of them
}

func (b *bareSession) SetAlarm(time.Time)     {}
func (b *bareSession) Wake()                  {}
func (b *bareSession) Allocated(Client, bool) {}
func (b *bareSession) Full(time.Time) bool    { return false }
func (b *bareSession) Send(answer []byte, _ Client, _ Priority, payload int, sender Sender) {
	if !b.discard {
		b.sent = append(b.sent, bytes.Clone(answer))
	}
	sender.Sent(payload, b.refuse)
}

func newBareSession(t testing.TB) *bareSession {
	t.Helper()
	return newBareSessionOf(Config{
		Realm:         turntest.TestRealm,
		Authenticator: credential.Verifier{Secrets: []credential.Secret{credential.NewSecret([]byte(turntest.TestSecret))}},
		Relay: turntest.TestRelay(t, relay.Config{Listen: turntest.NewMemNet().Listen,
			Addresses: []relay.Address{turntest.Address4, turntest.Address6}}),
		Lifetime: 10 * time.Minute, MaxLifetime: time.Hour, NonceLifetime: 10 * time.Minute, ExpiredGrace: 24 * time.Hour,
		Quotas:              limited(limit.Quotas{}),
		UnauthenticatedRate: 500, MaxGuesses: maxGuesses, SilentPeerBytes: silentBudget,
		Logger: slog.New(slog.DiscardHandler),
	})
}

// The configuration of the tests in this package.
const (
	maxGuesses     = 100
	silentBudget   = 64 << 10
	maxPermissions = 128
	maxChannels    = 128
)

// limited adds limits on permissions and channels to q.
func limited(q limit.Quotas) limit.Quotas {
	q.MaxPermissions, q.MaxChannels = maxPermissions, maxChannels
	return q
}

func newBareSessionOf(config Config) *bareSession {
	b := new(bareSession)
	shared := NewShared(config)
	shared.start = time.Unix(0, 0) // before any time that tests make up
	b.Session = New(shared, b, nil)
	b.apart = false // tests call everything on one goroutine
	return b
}

// dropped returns how many packets were dropped for a reason.
func (b *bareSession) dropped(reason event.DropReason) uint64 {
	return b.shared.Counters.Dropped[reason].Load()
}

// take passes one message to the session and returns the response, if any.
func (b *bareSession) take(message []byte, from Client, now time.Time) (answer []byte) {
	b.sent = nil
	return b.fromClient(message, from, now)
}

// relays reports whether data from a client is relayed to a peer.
func (b *bareSession) relays(message []byte, from Client, now time.Time) bool {
	before := b.relayed()
	b.take(message, from, now)
	return b.relayed() > before
}

// relayed returns how many packets went to peers.
func (b *bareSession) relayed() uint64 { return b.shared.Counters.ToPeer.Packets.Load() }

// signer signs messages for a bareSession.
type signer struct {
	cred  credential.Credential
	key   []byte
	nonce []byte
	from  Client
}

func newSigner(b *bareSession, now time.Time) *signer {
	s := &signer{from: Client{Tuple: event.FiveTuple{Client: netip.MustParseAddrPort("192.0.2.9:5000")}}}
	s.cred = credential.Issuer{Secret: credential.NewSecret([]byte(turntest.TestSecret)), TTL: time.Hour}.Issue(now)
	s.key = credential.LongTermKey(s.cred.Username, turntest.TestRealm, s.cred.Password)
	s.nonce = b.shared.nonces.appendNonce(nil, s.from.Tuple, now)
	return s
}

// use makes s sign with another credential.
func (s *signer) use(cred credential.Credential) {
	s.cred, s.key = cred, credential.LongTermKey(cred.Username, turntest.TestRealm, cred.Password)
}

func (s *signer) message(method stun.Method, serial byte, sets ...turntest.Set) []byte {
	var b stun.Builder
	b.Start(method, stun.ClassRequest, stun.TransactionID{serial})
	for _, set := range sets {
		set(&b)
	}
	b.Text(stun.AttrUsername, s.cred.Username)
	b.Text(stun.AttrRealm, turntest.TestRealm)
	b.Attr(stun.AttrNonce, s.nonce)
	b.MessageIntegrity(s.key)
	return bytes.Clone(b.Bytes())
}

// FuzzFromClient passes arbitrary bytes to the session, once unchanged and once with a valid signature, for an allocation with
// a permission and a channel.
func FuzzFromClient(f *testing.F) {
	peer := netip.MustParseAddrPort("127.0.0.1:40000")
	add := func(method stun.Method, class stun.Class, sets ...turntest.Set) {
		var b stun.Builder
		b.Start(method, class, stun.TransactionID{1})
		for _, s := range sets {
			s(&b)
		}
		f.Add(bytes.Clone(b.Bytes()))
	}
	add(stun.MethodBinding, stun.ClassRequest)
	add(stun.MethodAllocate, stun.ClassRequest, turntest.TransportUDP, turntest.Lifetime(777), turntest.Attr(stun.AttrEvenPort, 0x80))
	add(stun.MethodAllocate, stun.ClassRequest, turntest.TransportUDP,
		turntest.Attr(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8))
	add(stun.MethodAllocate, stun.ClassRequest, turntest.TransportUDP, turntest.Attr(stun.AttrAdditionalAddressFamily, 2, 0, 0, 0))
	add(stun.MethodAllocate, stun.ClassRequest, turntest.TransportUDP,
		turntest.Attr(stun.AttrCoturnAdditionalAddressFamily, 2, 0, 0, 0))
	add(stun.MethodAllocate, stun.ClassRequest, turntest.Attr(stun.AttrOrigin, []byte("https://example.net:443/")...))
	add(stun.MethodRefresh, stun.ClassRequest, turntest.Lifetime(0), turntest.Attr(stun.AttrRequestedAddressFamily, 1, 0, 0, 0))
	add(stun.MethodCreatePermission, stun.ClassRequest, turntest.PeerAddr(peer), turntest.PeerAddr(turntest.PublicPeer))
	add(stun.MethodChannelBind, stun.ClassRequest, turntest.PeerAddr(peer), turntest.Channel(0x4000))
	add(stun.MethodSend, stun.ClassIndication, turntest.PeerAddr(peer), turntest.Attr(stun.AttrData, 'x'),
		turntest.Attr(stun.AttrDontFragment))
	f.Add(turntest.ChannelData(0x4000, "hello"))
	f.Add([]byte{0x40, 0x00, 0xFF, 0xFC, 1, 2, 3, 4, 5})

	b := newBareSession(f)
	b.shared.config.Realms = map[string]string{"example.net": "example.net"}
	now := time.Unix(1758650868, 0)
	s := newSigner(b, now)
	f.Fuzz(func(t *testing.T, raw []byte) {
		setUp := [][]byte{
			s.message(stun.MethodAllocate, 1, turntest.TransportUDP),
			s.message(stun.MethodChannelBind, 2, turntest.Channel(0x4000), turntest.PeerAddr(peer)),
		}
		for _, m := range setUp {
			if a := b.allocations.get(s.from); a != nil {
				a.requests = limit.Rate{} // inputs come faster than clients may
				if m[1] == byte(stun.MethodAllocate) {
					continue
				}
			}
			if answer := b.take(m, s.from, now); len(answer) < 2 || answer[0] != 0x01 || answer[1]&0x10 != 0 {
				t.Fatalf("setting up: %x", answer)
			}
		}
		check := func(in []byte) {
			if answer := b.take(in, s.from, now); answer != nil {
				if len(answer) > len(in)+1024 {
					t.Errorf("%d bytes drew %d", len(in), len(answer))
				}
				if m, err := stun.Parse(answer); err != nil || m.Class != stun.ClassSuccess && m.Class != stun.ClassError {
					t.Errorf("answer %x: %v", answer, err)
				}
			}
			if n := b.allocations.len(); n > 1 {
				t.Errorf("%d allocations of one client", n)
			}
		}
		check(raw)
		if m, err := stun.Parse(raw); err == nil {
			// The same attributes, signed, get past authentication.
			var again stun.Builder
			again.Start(m.Method, m.Class, m.TransactionID)
			again.Text(stun.AttrUsername, s.cred.Username)
			again.Text(stun.AttrRealm, turntest.TestRealm)
			again.Attr(stun.AttrNonce, s.nonce)
			for typ, value := range m.Attributes() {
				again.Attr(typ, value)
			}
			if again.Len() < 60000 {
				again.MessageIntegrity(s.key)
				check(bytes.Clone(again.Bytes()))
			}
		}
		// Start again, or keep the allocation for the next input.
		if len(raw)%2 == 0 {
			b.take(s.message(stun.MethodRefresh, 3, turntest.Lifetime(0)), s.from, now)
		}
	})
}

func BenchmarkNonce(b *testing.B) {
	n := newNonces(nil, time.Hour)
	tuple := event.FiveTuple{Client: netip.MustParseAddrPort("192.0.2.9:5000")}
	now := time.Unix(1758650868, 0)
	nonce := n.appendNonce(nil, tuple, now)
	b.ReportAllocs()
	for b.Loop() {
		if !n.valid(nonce, tuple, now) {
			b.Fatal("not valid")
		}
	}
}

// BenchmarkVerify verifies a request without an allocation: nonce, key and integrity.
func BenchmarkVerify(b *testing.B) {
	session := newBareSession(b)
	now := time.Unix(1758650868, 0)
	s := newSigner(session, now)
	m, err := stun.Parse(s.message(stun.MethodAllocate, 1, turntest.TransportUDP))
	if err != nil {
		b.Fatal(err)
	}
	r := &session.request
	b.ReportAllocs()
	for b.Loop() {
		r.read(m, s.from, now)
		if _, _, ok := session.authenticate(r, nil, now); !ok {
			b.Fatal("refused")
		}
	}
}

// BenchmarkChallenge processes a request without credentials.
func BenchmarkChallenge(b *testing.B) {
	session := newBareSession(b)
	now := time.Now()
	s := newSigner(session, now)
	var builder stun.Builder
	builder.Start(stun.MethodAllocate, stun.ClassRequest, stun.TransactionID{1})
	turntest.TransportUDP(&builder)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second) // below the rate
		if answer := session.fromClient(builder.Bytes(), s.from, now); answer == nil {
			b.Fatal("no answer")
		}
	}
}

// BenchmarkAllocate makes and ends an allocation, on in-memory sockets.
func BenchmarkAllocate(b *testing.B) {
	session := newBareSession(b)
	now := time.Unix(1758650868, 0)
	s := newSigner(session, now)
	allocate, end := s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.message(stun.MethodRefresh, 2, turntest.Lifetime(0))
	b.ReportAllocs()
	for b.Loop() {
		if answer := session.take(allocate, s.from, now); answer == nil {
			b.Fatal("no answer")
		}
		session.take(end, s.from, now)
	}
}

// BenchmarkChannelDataToPeer processes ChannelData between the server's two sockets.
func BenchmarkChannelDataToPeer(b *testing.B) {
	session := newBareSession(b)
	now := time.Unix(1758650868, 0)
	s := newSigner(session, now)
	session.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
	session.take(s.message(stun.MethodChannelBind, 2, turntest.Channel(0x4000),
		turntest.PeerAddr(netip.MustParseAddrPort("127.0.0.1:40000"))), s.from, now)
	message := turntest.ChannelData(0x4000, string(make([]byte, 1200)))
	b.SetBytes(1200)
	b.ReportAllocs()
	for b.Loop() {
		session.fromClient(message, s.from, now)
	}
}

// Relaying a packet allocates no memory.
func TestChannelDataAllocatesNothing(t *testing.T) {
	session := newBareSession(t)
	now := time.Unix(1758650868, 0)
	s := newSigner(session, now)
	session.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
	session.take(s.message(stun.MethodChannelBind, 2, turntest.Channel(0x4000),
		turntest.PeerAddr(netip.MustParseAddrPort("127.0.0.1:40000"))), s.from, now)
	message := turntest.ChannelData(0x4000, "hello")
	if n := testing.AllocsPerRun(100, func() {
		if !session.relays(message, s.from, now) {
			t.Error("dropped")
		}
	}); n != 0 {
		t.Errorf("%v allocations for ChannelData, want none", n)
	}
}

// TestPanicOfAReader makes the delivery of a peer's packet panic on a goroutine of its own: the allocation ends.
func TestPanicOfAReader(t *testing.T) {
	b := newBareSession(t)
	now := time.Now()
	s := newSigner(b, now)
	b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
	peer := netip.AddrPortFrom(turntest.Loopback, 40000)
	b.take(s.message(stun.MethodChannelBind, 2, turntest.Channel(0x4000), turntest.PeerAddr(peer)), s.from, now)
	address := b.allocations.get(s.from).addresses[0]
	b.Session.link = panicking{b}
	address.Deliver(peer, []byte("x"), now)
	b.Session.link = b
	if got := b.shared.Counters.Panics.Load(); got != 1 || b.shared.Allocations() != 1 {
		t.Errorf("%d panics, %d allocations before the session has a turn; want one each", got, b.shared.Allocations())
	}
	if b.Tick(now); b.shared.Allocations() != 0 {
		t.Error("the allocation goes on")
	}
}

// panicking is a link that cannot send.
type panicking struct{ *bareSession }

func (panicking) Send([]byte, Client, Priority, int, Sender) { panic("a mistake in the server") }
