package turnsrv

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/ban"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

// Defaults of Config.
const (
	DefaultLifetime       = 10 * time.Minute // RFC 8656 section 3.2
	DefaultMaxLifetime    = time.Hour        // RFC 8656 section 7.2
	DefaultNonceLifetime  = time.Hour        // the most that RFC 8656 section 5 asks for: werift does not survive every new nonce
	DefaultExpiredGrace   = 24 * time.Hour
	DefaultMaxPermissions = 128
	DefaultMaxChannels    = 128
	DefaultMaxStreams     = 10000
	DefaultGather         = loop.MaxGather

	// Default packet rates of endpoints. In Quotas, zero means no limit.
	DefaultMaxPPS        = 20000
	DefaultMaxPPSPerUser = 40000

	DefaultUnauthenticatedRate = 500
	DefaultMaxGuesses          = 100
	DefaultSilentPeerBytes     = 64 << 10
)

// Config configures a Server. Realm, Authenticator and Relay are required.
type Config struct {
	// Realm is sent to clients and is part of every key, RFC 8489 section 9.2. It has at most 127 bytes. A realm of at most 20
	// bytes keeps the response to the smallest request at 72 bytes.
	Realm string
	// Realms contains further realms by the name under which clients reach the server, in lower case: the TLS server name (RFC
	// 6066 section 3) or the host in ORIGIN. The server sends a realm before it knows the user, and the client signs with that
	// realm. A client over UDP without ORIGIN, such as a browser, gets Realm. Therefore the Authenticator should accept the users
	// of every realm in Realm too, as credential.Verifier does.
	Realms map[string]string
	// Authenticator looks up who may use the server.
	Authenticator credential.Authenticator
	// Relay opens relayed transport addresses and decides which peers they may reach. The server closes the addresses that it
	// opened, but not the allocator.
	Relay *relay.Allocator

	// Lifetime is the minimum lifetime of an allocation. Zero means DefaultLifetime.
	Lifetime time.Duration
	// MaxLifetime is the maximum lifetime that a client can request. Zero means DefaultMaxLifetime.
	MaxLifetime time.Duration
	// NonceLifetime is how long a nonce is valid. Zero means DefaultNonceLifetime.
	NonceLifetime time.Duration
	// NonceKey, if not nil, are 32 secret bytes that nonces are made with. A server with the same key as an earlier one accepts its
	// nonces, so that a client learns with the first response that its allocation is gone (437). Nil means random bytes.
	NonceKey []byte
	// ExpiredGrace is how long an existing allocation can still be refreshed after its credential has expired or is no longer
	// granted by the Authenticator. Zero means DefaultExpiredGrace, negative means none. Server.SetExpiredGrace replaces it.
	ExpiredGrace time.Duration

	// Server.SetQuotas replaces the Quotas.
	limit.Quotas
	// MaxStreams limits the TCP and TLS connections of one listener, and the DTLS associations of one socket. When there are more,
	// or more than 4096 without an allocation, one without an allocation is closed: the oldest one of the source network (IPv4
	// /24, IPv6 /48) that has the most. If all have an allocation, the new one is closed. Zero means DefaultMaxStreams.
	MaxStreams int

	// Workers is the number of event loops that serve the sockets. Zero means DefaultWorkers, negative means none: then
	// goroutines serve the sockets, as on systems other than Linux. Each worker serves one of the sockets with the same address, so
	// that several require several sockets (SO_REUSEPORT). Workers share a thread while they have little to do. A thread waits for
	// packets in a way that occupies a processor of Go's scheduler, if there are more of these (runtime.GOMAXPROCS) than workers.
	Workers int
	// Gather is how long a worker under load waits for more packets after it has processed those that have arrived, so that it
	// processes more of them together. It increases the latency by at most this much. Zero means DefaultGather, negative means that
	// it does not wait.
	Gather time.Duration
	// NoSegment and NoCoalesce switch off UDP_SEGMENT and UDP_GRO, with which the system sends and receives several packets as one.
	NoSegment, NoCoalesce bool

	// Successor makes the server do nothing until Server.Begin is called, so that Server.Restore can give it the allocations of another
	// process first. It has no effect without workers.
	Successor bool

	// UnauthenticatedRate limits the responses per second to unauthenticated UDP requests: Binding requests, and unsigned requests
	// answered with 401, 400 or 438. It applies to each source network (IPv4 /24, IPv6 /48) on each socket, with a burst of twice
	// the rate. Further requests are dropped. Zero means DefaultUnauthenticatedRate, negative means no limit.
	//
	// The default is intended to be out of reach for all phones behind one NAT. A call begins with one or two such requests and
	// then sends at most one every ten seconds, so the default allows 200 new calls per second or 5000 active calls. An attacker
	// that uses the server as a reflector gets at most 36 kB per second to one network, for 14 kB of requests.
	//
	// In addition, each host (IPv6: /64) gets 4 responses per second that do not count towards this rate, so that a host that
	// exhausts the rate does not prevent its neighbours from getting their first responses. Together, the hosts of one network get
	// at most the rate again.
	UnauthenticatedRate int
	// MaxGuesses is the number of failed integrity checks of one source address (IPv6: /64) that are answered in one burst. After
	// that, one is answered per second. Further failures in the meantime extend the silence, up to five minutes. Requests with a
	// valid signature are always served. Zero means DefaultMaxGuesses, negative means no limit.
	MaxGuesses int

	// SilentPeerBytes limits the bytes, including IP and UDP headers, that an allocation sends in ten seconds to a peer address
	// that has not sent anything. The limit is 8 times as high for all such addresses of one allocation together. For all
	// allocations together, it is 4 times as high for one such address (IPv6: /64) and 16 times as high for one network (IPv4 /24,
	// IPv6 /48). Zero means DefaultSilentPeerBytes, negative means no limit.
	SilentPeerBytes int

	// DefaultFamily determines the address family of a relayed transport address if the request specifies none.
	DefaultFamily relay.DefaultFamily
	// StrictChannels refuses channel numbers above 0x4FFF, the maximum of RFC 8656 section 12. Clients that implement RFC 5766 use
	// numbers up to 0x7FFF.
	StrictChannels bool
	// Software is sent as SOFTWARE in signed responses. If empty, the attribute is omitted.
	Software string

	// LogGuesses makes the server log each wrong password and each unknown user that it answers, at level warn, with the client's
	// address, which has echoed a nonce. MaxGuesses bounds the lines per address.
	LogGuesses bool

	// KernelPath makes the kernel relay the packets of bound channels between UDP clients and peers of the same address family,
	// which takes a fraction of the CPU time. This requires Linux with CAP_BPF and CAP_NET_ADMIN. Packets that the kernel relays do
	// not pass netfilter. While the path is in use, sockets do not use UDP_GRO.
	KernelPath KernelPath
	// kernelChannels is how many channels the kernel can relay, if tests need another number than the default.
	kernelChannels int

	// Alternate, if not nil, is called for Allocate requests that are refused because the server drains. If it returns another server,
	// the response is 300 (Try Alternate) with that, RFC 8489 section 10. server is for the transport of tuple and has the address
	// family of the client; domain, if not empty, is the name in the certificate of server. account is that of the credential. It is
	// called from several goroutines and must not block.
	Alternate func(account string, tuple event.FiveTuple) (server netip.AddrPort, domain string, ok bool)

	// Bans, if not nil, are refused with 403 in Allocate and Refresh requests. Until then, allocations that exist go on: see
	// Server.Disconnect.
	Bans *ban.List

	// Meter counts what users relay in a day, for Quotas.MaxBytesPerUserPerDay. Nil means an own usage.Day, which counts only while
	// there is that limit.
	Meter usage.Meter
	// Holdings, if not nil, are what users have on several servers. Quotas.MaxAllocationsPerUser then counts what they have elsewhere.
	Holdings usage.Holdings

	// OnEvent, if not nil, is called when an allocation is made, refused, refreshed or ended. It is called from several goroutines
	// and must not block.
	OnEvent func(event.Event)
	// Logger receives messages for the operator. User names appear at debug level only, keys and passwords never. Nil discards all
	// messages.
	Logger *slog.Logger
}

// withDefaults validates c and replaces zero values by their defaults.
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
	c.Lifetime = cmp.Or(c.Lifetime, DefaultLifetime)
	c.MaxLifetime = cmp.Or(c.MaxLifetime, DefaultMaxLifetime)
	c.NonceLifetime = cmp.Or(c.NonceLifetime, DefaultNonceLifetime)
	c.ExpiredGrace = cmp.Or(c.ExpiredGrace, DefaultExpiredGrace)
	c.MaxStreams = cmp.Or(c.MaxStreams, DefaultMaxStreams)
	c.Gather = cmp.Or(c.Gather, DefaultGather)
	c.Quotas = quotasWithDefaults(c.Quotas)
	c.UnauthenticatedRate = cmp.Or(c.UnauthenticatedRate, DefaultUnauthenticatedRate)
	c.MaxGuesses = cmp.Or(c.MaxGuesses, DefaultMaxGuesses)
	c.SilentPeerBytes = cmp.Or(c.SilentPeerBytes, DefaultSilentPeerBytes)
	if c.MaxCallsPerUser < 0 || c.MaxBytesPerUserPerDay < 0 || c.MaxBPS < 0 || c.MaxTotalBPS < 0 || c.MaxPPS < 0 || c.MaxPPSPerUser < 0 {
		return c, errors.New("limit is negative")
	}
	if c.NonceKey != nil && len(c.NonceKey) != session.NonceKeyLen {
		return c, fmt.Errorf("nonce key has %d bytes, want %d", len(c.NonceKey), session.NonceKeyLen)
	}
	if c.MaxLifetime < c.Lifetime {
		return c, errors.New("maximum lifetime is below the default lifetime")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// quotasWithDefaults sets the limits that are always required.
func quotasWithDefaults(q limit.Quotas) limit.Quotas {
	q.MaxPermissions = cmp.Or(q.MaxPermissions, DefaultMaxPermissions)
	q.MaxChannels = cmp.Or(q.MaxChannels, DefaultMaxChannels)
	return q
}

// session returns the part of c that the protocol requires. c has no zero values that represent defaults.
func (c *Config) session() session.Config {
	return session.Config{
		Realm: c.Realm, Realms: c.Realms, Authenticator: c.Authenticator, Relay: c.Relay,
		Lifetime: c.Lifetime, MaxLifetime: c.MaxLifetime, NonceLifetime: c.NonceLifetime, NonceKey: c.NonceKey, ExpiredGrace: c.ExpiredGrace,
		Quotas: c.Quotas, UnauthenticatedRate: c.UnauthenticatedRate, MaxGuesses: c.MaxGuesses, SilentPeerBytes: c.SilentPeerBytes,
		DefaultFamily: c.DefaultFamily, StrictChannels: c.StrictChannels, Software: c.Software, LogGuesses: c.LogGuesses, Alternate: c.Alternate, Bans: c.Bans, Meter: c.Meter, Holdings: c.Holdings, OnEvent: c.OnEvent, Logger: c.Logger,
	}
}
