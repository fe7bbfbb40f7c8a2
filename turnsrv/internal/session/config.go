package session

import (
	"log/slog"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// Config is what the protocol has to know. The fields are those of turnsrv.Config, and none stands for a default.
type Config struct {
	Realm         string
	Realms        map[string]string
	Authenticator credential.Authenticator
	Relay         *relay.Allocator

	Lifetime, MaxLifetime time.Duration
	NonceLifetime         time.Duration
	ExpiredGrace          time.Duration
	Quotas                limit.Quotas

	UnauthenticatedRate int // negative is no limit, as in the next two
	MaxGuesses          int
	SilentPeerBytes     int

	DefaultFamily  relay.DefaultFamily
	StrictChannels bool
	Software       string

	OnEvent func(event.Event) // may be nil
	Logger  *slog.Logger
}
