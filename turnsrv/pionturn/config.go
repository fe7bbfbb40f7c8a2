package pionturn

import (
	"cmp"
	"errors"
	"log/slog"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// Defaults of Config.
const (
	DefaultExpiredGrace = 24 * time.Hour
	DefaultMaxStreams   = 10000
)

// Config configures a Server. Realm, Authenticator and Relay are required.
type Config struct {
	// Realm is sent to clients and is part of every key, RFC 8489 section 9.2. Requests with another realm are refused.
	Realm string
	// Authenticator looks up who may use the server.
	Authenticator credential.Authenticator
	// Relay opens relayed transport addresses and decides which peers they may reach. pion relays only one address family: IPv4,
	// unless Relay has only IPv6. The server closes the addresses that it opened, but not the allocator.
	Relay *relay.Allocator

	// Quotas limit the allocations.
	Quotas
	// ExpiredGrace is how long an existing allocation can still be refreshed after its credential has expired. Zero means
	// DefaultExpiredGrace, negative means none.
	ExpiredGrace time.Duration
	// MaxStreams limits the TCP and TLS connections of one listener. When there are more, or more than 4096 without an allocation,
	// the oldest one without an allocation is closed. Zero means DefaultMaxStreams.
	MaxStreams int

	// Logger receives messages for the operator. User names appear at debug level only, keys and passwords never. Nil discards all
	// messages.
	Logger *slog.Logger
}

// withDefaults validates c and replaces zero values by their defaults.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Realm == "":
		return c, errors.New("realm is empty")
	case c.Authenticator == nil:
		return c, errors.New("authenticator is missing")
	case c.Relay == nil:
		return c, errors.New("relay allocator is missing")
	case c.MaxStreams < 0:
		return c, errors.New("maximum number of streams is negative")
	}
	c.ExpiredGrace = cmp.Or(c.ExpiredGrace, DefaultExpiredGrace)
	c.MaxStreams = cmp.Or(c.MaxStreams, DefaultMaxStreams)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
