package turnsrv

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// Defaults of Config.
const (
	DefaultLifetime       = 10 * time.Minute // RFC 8656 section 3.2
	DefaultMaxLifetime    = time.Hour        // RFC 8656 section 7.2
	DefaultNonceLifetime  = 10 * time.Minute // RFC 8656 section 5 asks for an hour or less
	DefaultExpiredGrace   = 24 * time.Hour
	DefaultMaxPermissions = 128
	DefaultMaxChannels    = 128
	DefaultMaxStreams     = 10000

	// Rates that endpoints set unless they are told otherwise; in Quotas, zero is no limit.
	DefaultMaxPPS        = 20000
	DefaultMaxPPSPerUser = 40000

	DefaultUnauthenticatedRate = 500
	DefaultMaxGuesses          = 100
	DefaultSilentPeerBytes     = 64 << 10
)

// Config is what a Server is made from. Realm, Authenticator and Relay are required.
type Config struct {
	// Realm is sent to clients and part of every key, RFC 8489 section 9.2. At most 127 bytes. A realm of at most 20
	// bytes keeps the answer to the smallest request at 72 bytes.
	Realm string
	// Realms are further realms, by the names under which their clients call the server, in lower case: the server name of
	// TLS (RFC 6066 section 3), or the host in ORIGIN. A client is told of one realm before anybody knows who it is, and
	// signs with that. One that comes over UDP without an ORIGIN, as browsers do, is told of Realm, so that the
	// Authenticator should know users of any realm in that one, as credential.Verifier does.
	Realms map[string]string
	// Authenticator says who may use the server.
	Authenticator credential.Authenticator
	// Relay opens relayed transport addresses, and says which peers they may reach. The server closes the addresses that
	// it had opened, not the allocator.
	Relay *relay.Allocator

	// Lifetime is that of an allocation whose client does not ask for more. Zero is DefaultLifetime.
	Lifetime time.Duration
	// MaxLifetime is the most that a client can ask for. Zero is DefaultMaxLifetime.
	MaxLifetime time.Duration
	// NonceLifetime is how long a nonce is accepted. Zero is DefaultNonceLifetime.
	NonceLifetime time.Duration
	// ExpiredGrace is how long a running allocation may still be refreshed after its credential has expired, or is not
	// granted by the Authenticator any more. Zero is DefaultExpiredGrace, negative is none. Server.SetExpiredGrace replaces
	// it.
	ExpiredGrace time.Duration

	// Quotas can be replaced later, by Server.SetQuotas.
	limit.Quotas
	// MaxStreams bounds the TCP and TLS connections of one listener, and the DTLS associations of one socket. For one beyond
	// it, or beyond 4096 without an allocation, one without is closed: the oldest of the source network (IPv4 /24, IPv6 /48)
	// that has most of them. If all have one, the new one is closed. Zero is DefaultMaxStreams.
	MaxStreams int

	// UnauthenticatedRate is how many UDP requests a second are answered that nobody vouches for: Binding, and what draws
	// 401, 400 or 438 and is not signed. It is that of one source network (IPv4 /24, IPv6 /48) on one socket, with twice as
	// many at once; what is beyond is dropped. Zero is DefaultUnauthenticatedRate, negative is no limit.
	//
	// The default is meant to be out of reach of the phones behind a NAT. A call begins with one or two such requests and
	// then sends one in ten seconds at most, so that it is enough for 200 calls that begin in each second, or for 5000 that
	// go on. As a reflector the server gives a network 36 kB a second, for the 14 kB that it takes to ask for them.
	//
	// Each host (IPv6: /64) is answered 4 times a second outside of this rate, so that a neighbour who uses it up keeps nobody
	// from a first answer; all hosts of a network together are answered as often again as the rate says.
	UnauthenticatedRate int
	// MaxGuesses is how many failed integrity checks of one source address (IPv6: /64) are answered at once. One more is
	// answered each second, unless it goes on in spite of the silence, which then becomes longer, up to five minutes. What
	// is signed right is served in any case. Zero is DefaultMaxGuesses, negative is no limit.
	MaxGuesses int

	// SilentPeerBytes is how many bytes, with the headers of IP and UDP, an allocation sends in ten seconds to a peer address from which nothing
	// has come. To all such addresses together it sends 8 times as many. All allocations together send 4 times as many to one
	// such address (IPv6: /64), and 16 times as many to those of one network (IPv4 /24, IPv6 /48). Zero is
	// DefaultSilentPeerBytes, negative is no limit.
	SilentPeerBytes int

	// DefaultFamily is the family of relayed addresses for requests that name none.
	DefaultFamily relay.DefaultFamily
	// StrictChannels refuses channel numbers above 0x4FFF, where RFC 8656 section 12 ends the range. Clients that follow
	// RFC 5766 take numbers up to 0x7FFF.
	StrictChannels bool
	// Software is sent as SOFTWARE in signed responses. Empty sends none.
	Software string

	// OnEvent, if set, is called when an allocation is made, refused, refreshed or ended. It is called from several
	// goroutines and must not block.
	OnEvent func(event.Event)
	// Logger receives what an operator should know; user names appear at debug only, keys and passwords never. Nil
	// discards.
	Logger *slog.Logger
}

// withDefaults checks c and fills in what is zero.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Realm == "":
		return c, errors.New("realm is empty")
	case len(c.Realm) > session.MaxRealmLen:
		return c, errors.New("realm is longer than 127 bytes")
	case c.Authenticator == nil:
		return c, errors.New("authenticator is missing")
	case c.Relay == nil:
		return c, errors.New("relay allocator is missing")
	}
	for name, realm := range c.Realms {
		if realm == "" || len(realm) > session.MaxRealmLen {
			return c, fmt.Errorf("realm of %q is empty or longer than 127 bytes", name)
		}
	}
	setDefault(&c.Lifetime, DefaultLifetime)
	setDefault(&c.MaxLifetime, DefaultMaxLifetime)
	setDefault(&c.NonceLifetime, DefaultNonceLifetime)
	setDefault(&c.ExpiredGrace, DefaultExpiredGrace)
	setDefault(&c.MaxStreams, DefaultMaxStreams)
	c.Quotas = quotasWithDefaults(c.Quotas)
	setDefault(&c.UnauthenticatedRate, DefaultUnauthenticatedRate)
	setDefault(&c.MaxGuesses, DefaultMaxGuesses)
	setDefault(&c.SilentPeerBytes, DefaultSilentPeerBytes)
	if c.MaxBPS < 0 || c.MaxTotalBPS < 0 || c.MaxPPS < 0 || c.MaxPPSPerUser < 0 {
		return c, errors.New("rate limit is negative")
	}
	if c.MaxLifetime < c.Lifetime {
		return c, errors.New("maximum lifetime is below the default lifetime")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// quotasWithDefaults fills in the limits that nobody may be without.
func quotasWithDefaults(q limit.Quotas) limit.Quotas {
	setDefault(&q.MaxPermissions, DefaultMaxPermissions)
	setDefault(&q.MaxChannels, DefaultMaxChannels)
	return q
}

// session returns what the protocol has to know of c, in which there are no defaults any more.
func (c *Config) session() session.Config {
	return session.Config{
		Realm: c.Realm, Realms: c.Realms, Authenticator: c.Authenticator, Relay: c.Relay,
		Lifetime: c.Lifetime, MaxLifetime: c.MaxLifetime, NonceLifetime: c.NonceLifetime, ExpiredGrace: c.ExpiredGrace,
		Quotas: c.Quotas, UnauthenticatedRate: c.UnauthenticatedRate, MaxGuesses: c.MaxGuesses, SilentPeerBytes: c.SilentPeerBytes,
		DefaultFamily: c.DefaultFamily, StrictChannels: c.StrictChannels, Software: c.Software, OnEvent: c.OnEvent, Logger: c.Logger,
	}
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}
