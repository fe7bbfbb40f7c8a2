package session

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// answers returns how many of n copies of message the session answers.
func (b *bareSession) answers(message []byte, from Client, now time.Time, n int) (answered int) {
	for range n {
		if answer := b.take(message, from, now); answer != nil {
			answered++
		}
	}
	return answered
}

func clientAt(addr string) Client {
	return Client{Tuple: event.FiveTuple{Client: netip.MustParseAddrPort(addr)}}
}

func TestUnauthenticatedAnswersAreLimited(t *testing.T) {
	now := time.Unix(1758650868, 0)
	unsigned := func(method stun.Method, sets ...turntest.Set) []byte {
		var b stun.Builder
		b.Start(method, stun.ClassRequest, stun.TransactionID{1})
		for _, s := range sets {
			s(&b)
		}
		return b.Bytes()
	}
	stale := func(b *bareSession, from Client) []byte {
		guesser := newSigner(b, now)
		guesser.nonce, guesser.key = []byte("sixteen letters."), []byte("wrong")
		return guesser.message(stun.MethodAllocate, 1, turntest.TransportUDP)
	}
	for _, tt := range []struct {
		name    string
		message func(b *bareSession, from Client) []byte
	}{
		{"Binding", func(*bareSession, Client) []byte { return unsigned(stun.MethodBinding) }},
		{"unknown attribute in a Binding request", func(*bareSession, Client) []byte {
			return unsigned(stun.MethodBinding, turntest.Attr(0x7777))
		}},
		{"no credentials", func(*bareSession, Client) []byte { return unsigned(stun.MethodAllocate, turntest.TransportUDP) }},
		{"no nonce", func(*bareSession, Client) []byte {
			return unsigned(stun.MethodAllocate, func(b *stun.Builder) { b.MessageIntegrity([]byte("key")) })
		}},
		{"stale nonce and a wrong key", stale},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBareSession(t)
			b.shared.config.UnauthenticatedRate = 10
			from := clientAt("198.51.100.1:5000")
			if got := b.answers(tt.message(b, from), from, now, 100); got != 20+hostBurst {
				t.Errorf("%d answers at once, want %d", got, 20+hostBurst)
			}
			// Neighbours still get their first responses, until they have had as many as the network.
			neighbours := 0
			for host := range 250 {
				neighbour := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(2 + host)}), 1)
				neighbours += b.answers(tt.message(b, from), Client{Tuple: event.FiveTuple{Client: neighbour}}, now, 1)
			}
			if neighbours != 20-hostBurst {
				t.Errorf("%d neighbours are answered, want %d", neighbours, 20-hostBurst)
			}
			if got, want := b.dropped(event.DropUnauthenticated), uint64(100+250-2*20); got != want {
				t.Errorf("%d requests counted as dropped, want %d", got, want)
			}
			if got := b.answers(tt.message(b, from), clientAt("198.51.101.1:5000"), now, 1); got != 1 {
				t.Error("another network is not answered")
			}
			if got := b.answers(tt.message(b, from), from, now.Add(time.Second), 100); got != 10+hostAnswers {
				t.Errorf("%d answers a second later, want %d", got, 10+hostAnswers)
			}
			over := Client{Tuple: from.Tuple, Stream: nameless{}}
			if got := b.answers(tt.message(b, from), over, now, 100); got != 100 {
				t.Errorf("%d answers over a stream, want 100", got)
			}
		})
	}
}

// Signed requests are served during a spoofed flood from the same network: with a valid nonce, with a stale one, and with an
// expired credential.
func TestSignedRequestsAreNotLimited(t *testing.T) {
	b := newBareSession(t)
	b.shared.config.UnauthenticatedRate = 1
	now := time.Unix(1758650868, 0)
	s := newSigner(b, now)
	var flood stun.Builder
	flood.Start(stun.MethodBinding, stun.ClassRequest, stun.TransactionID{1})
	if got := b.answers(flood.Bytes(), s.from, now, 10); got != 2*2 {
		t.Fatalf("%d answers, want 4", got)
	}
	for range 10 {
		if got := b.answers(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now, 1); got != 1 {
			t.Fatal("a signed request is not answered")
		}
	}
	fresh := s.nonce
	s.nonce = []byte("sixteen letters.")
	if got := b.answers(s.message(stun.MethodRefresh, 2), s.from, now, 10); got != 10 {
		t.Errorf("%d of 10 Refresh requests with a stale nonce are answered", got)
	}
	s.nonce = fresh
	s.use(credential.Issuer{Secret: credential.NewSecret([]byte(turntest.TestSecret)), TTL: -time.Minute}.Issue(now))
	if got := b.answers(s.message(stun.MethodRefresh, 3), s.from, now, 300); got != 300 {
		t.Errorf("%d of 300 requests with an expired credential are answered", got)
	}
}

func TestGuessesAreSilenced(t *testing.T) {
	b := newBareSession(t)
	now := time.Unix(1758650868, 0)
	good, bad := newSigner(b, now), newSigner(b, now)
	bad.key = []byte("a guess")
	guess := bad.message(stun.MethodAllocate, 1, turntest.TransportUDP)
	if got := b.answers(guess, bad.from, now, 1000); got != maxGuesses {
		t.Errorf("%d guesses are answered at once, want %d", got, maxGuesses)
	}
	if got := b.dropped(event.DropGuess); got != 1000-maxGuesses {
		t.Errorf("%d counted as dropped, want %d", got, 1000-maxGuesses)
	}
	neighbour := clientAt("192.0.2.9:6000")
	good.from = neighbour
	good.nonce = b.shared.nonces.appendNonce(nil, neighbour.Tuple, now)
	if got := b.answers(good.message(stun.MethodAllocate, 1, turntest.TransportUDP), neighbour, now, 1); got != 1 {
		t.Error("a neighbour with a good credential gets no answer")
	}
	elsewhere := clientAt("192.0.2.10:6000")
	bad.from, bad.nonce = elsewhere, b.shared.nonces.appendNonce(nil, elsewhere.Tuple, now)
	if got := b.answers(bad.message(stun.MethodAllocate, 1, turntest.TransportUDP), elsewhere, now, 1); got != 1 {
		t.Error("the next address is silenced too")
	}
	// Five minutes after 900 failed attempts there is a response again, and not before.
	if got := b.answers(guess, newSigner(b, now).from, now.Add(maxSilence-time.Second), 1); got != 0 {
		t.Error("the silence ends early")
	}
	if got := b.answers(guess, newSigner(b, now).from, now.Add(maxSilence+2*time.Second), 1); got != 1 {
		t.Error("the silence does not end")
	}
}

// nameless is a connection without a TLS server name.
type nameless struct{}

func (nameless) Name() string { return "" }
