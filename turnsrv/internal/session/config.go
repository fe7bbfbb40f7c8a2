package session

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/ban"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

// Config is the part of turnsrv.Config that the protocol requires. Defaults have already been applied.
type Config struct {
	Realm         string
	Realms        map[string]string
	Authenticator credential.Authenticator
	Relay         *relay.Allocator

	Lifetime, MaxLifetime time.Duration
	NonceLifetime         time.Duration
	NonceKey              []byte // nil means random bytes
	ExpiredGrace          time.Duration
	Quotas                limit.Quotas

	UnauthenticatedRate int // negative means no limit, as for the next two fields
	MaxGuesses          int
	SilentPeerBytes     int

	DefaultFamily  relay.DefaultFamily
	StrictChannels bool
	Software       string
	LogGuesses     bool

	Kernel    Kernel                                                                                      // may be nil
	Alternate func(account string, tuple event.FiveTuple) (server netip.AddrPort, domain string, ok bool) // may be nil

	Bans     *ban.List         // may be nil
	Meter    usage.Meter       // may be nil
	Holdings usage.Holdings    // may be nil
	OnEvent  func(event.Event) // may be nil
	Logger   *slog.Logger
}
