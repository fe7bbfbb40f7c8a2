package pionturn

import (
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

// Authenticator looks up who may use the server. credential.Verifier is one. Lookup is called for every signed request, from
// several goroutines; it must not block.
type Authenticator interface {
	// Lookup returns the keys that username has in realm, and false for an unknown name.
	Lookup(username, realm string) (credential.Grant, bool)
}

// Config is what a Server is made from. Realm, Authenticator and Relay are required.
type Config struct {
	// Realm is sent to clients and is part of every key, RFC 8489 section 9.2. Requests with another one are refused.
	Realm string
	// Authenticator says who may use the server.
	Authenticator Authenticator
	// Relay opens relayed transport addresses, and says which peers they may reach. pion relays one family: IPv4, unless
	// Relay has IPv6 alone. The server closes the addresses that it has opened, not the allocator.
	Relay *relay.Allocator

	// Quotas bound the allocations.
	Quotas
	// ExpiredGrace is how long a client may still refresh a running allocation after its credential has expired. Zero is
	// DefaultExpiredGrace, negative is none.
	ExpiredGrace time.Duration
	// MaxStreams bounds the TCP and TLS connections of one listener. Beyond it, or beyond 4096 connections without an
	// allocation, the oldest of those is closed for a new one. Zero is DefaultMaxStreams.
	MaxStreams int

	// Logger receives what an operator should know; user names appear at debug only, keys and passwords never. Nil
	// discards.
	Logger *slog.Logger
}

// withDefaults checks c and fills in what is zero.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Realm == "":
		return c, errors.New("realm is empty")
	case c.Authenticator == nil:
		return c, errors.New("no authenticator")
	case c.Relay == nil:
		return c, errors.New("no relay")
	case c.MaxStreams < 0:
		return c, errors.New("maximum of streams is negative")
	}
	if c.ExpiredGrace == 0 {
		c.ExpiredGrace = DefaultExpiredGrace
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = DefaultMaxStreams
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
