package session

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Shared is what the sessions of one server have in common. Safe for concurrent use.
type Shared struct {
	config      Config
	nonces      *nonces
	quota       *quota
	guesses     guesses
	silentPeers silentPeers
	decoy       [16]byte // a key that nobody has
	draining    atomic.Bool

	start        time.Time                    // the zero of rates
	limits       atomic.Pointer[limit.Quotas] // those that are not the quota's
	throttles    [numDirections]throttle
	active       atomic.Int64 // allocations that relay, as the janitors last saw
	entries      atomic.Int64 // permissions and channels beyond what each allocation may have
	expiredGrace atomic.Int64 // of Config, a time.Duration

	// Counters are added to by sessions and links.
	Counters *count.Counters
	samples  limit.Sampler
	builders sync.Pool // of *stun.Builder, for what one allocation delivers to another
}

// NewShared returns what the sessions of a server with config share.
func NewShared(config Config) *Shared {
	s := &Shared{
		config:      config,
		Counters:    new(count.Counters),
		nonces:      newNonces(config.NonceLifetime),
		quota:       newQuota(config.Quotas),
		start:       time.Now(),
		guesses:     guesses{burst: config.MaxGuesses},
		silentPeers: silentPeers{budget: config.SilentPeerBytes},
		builders:    sync.Pool{New: func() any { return new(stun.Builder) }},
	}
	_, _ = rand.Read(s.decoy[:]) // never fails
	for d := range s.throttles {
		s.throttles[d].active = &s.active
	}
	s.SetQuotas(config.Quotas)
	s.SetExpiredGrace(config.ExpiredGrace)
	return s
}

// SetQuotas replaces the Quotas of the Config.
func (s *Shared) SetQuotas(q limit.Quotas) {
	s.quota.limit(q)
	s.limits.Store(&q)
}

// SetExpiredGrace replaces that of the Config. Negative is none.
func (s *Shared) SetExpiredGrace(grace time.Duration) { s.expiredGrace.Store(int64(max(grace, 0))) }

// Drain has new allocations refused from now on, and returns a channel that is closed when there are none.
func (s *Shared) Drain() <-chan struct{} {
	s.draining.Store(true)
	return s.quota.whenEmpty()
}

// Allocations returns the number of relayed addresses.
func (s *Shared) Allocations() int { return s.quota.count() }

// logRefusal shows one refused request a minute of each method and code, at debug. Allocate requests have events.
func (s *Shared) logRefusal(o *origin, code stun.ErrorCode, now time.Time) {
	if o.method == stun.MethodAllocate || !s.config.Logger.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	if skipped, due := s.samples.Next(fmt.Sprint(o.method, int(code)), now); due {
		s.config.Logger.Debug("request refused", "method", o.method.String(), "code", int(code),
			"client", o.client.Tuple.Client.String(), "username", o.username, "skipped", skipped)
	}
}

// logQuota tells the operator that clients are refused because of a quota. That of the server is one to act on.
func (s *Shared) logQuota(reached event.RefusalReason, now time.Time) {
	level := slog.LevelInfo
	if reached == event.RefusedTotalQuota {
		level = slog.LevelWarn
	}
	if skipped, due := s.samples.Next(reached.String(), now); due {
		s.config.Logger.Log(context.Background(), level, "allocation refused: quota reached", "reason", reached.String(), "skipped", skipped)
	}
}

// logFarExpiry tells the operator of a credential that somebody has issued for too long.
func (s *Shared) logFarExpiry(expires, now time.Time) {
	if skipped, due := s.samples.Next(event.RefusedFarExpiry.String(), now); due {
		s.config.Logger.Warn("credential refused: expiry is too far in the future", "expires", expires, "skipped", skipped)
	}
}

// logRefusedPeer tells the operator, now and then, that a rule refuses peers that clients want.
func (s *Shared) logRefusedPeer(peer netip.Addr, rule string, now time.Time) {
	if skipped, due := s.samples.Next(rule, now); due {
		s.config.Logger.Info("peer refused", "peer", peer.String(), "rule", rule, "skipped", skipped)
	}
}

// logRelayError tells the operator that relayed addresses cannot be opened.
func (s *Shared) logRelayError(err error, now time.Time) {
	if skipped, due := s.samples.Next("relay", now); due {
		s.config.Logger.Warn("cannot open a relayed address", "err", err, "skipped", skipped)
	}
}

// LogAccept tells the operator that a listener cannot accept connections, for want of descriptors, say.
func (s *Shared) LogAccept(listener net.Addr, err error, now time.Time) {
	if skipped, due := s.samples.Next("accept", now); due {
		s.config.Logger.Warn("cannot accept connections", "listen", listener.String(), "err", err, "skipped", skipped)
	}
}
