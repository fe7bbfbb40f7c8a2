package session

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

// Shared holds what the sessions of one server have in common. Safe for concurrent use.
type Shared struct {
	config      Config
	nonces      *nonces
	quota       *quota
	guesses     guesses
	silentPeers silentPeers
	decoy       [16]byte // a key that no user has
	draining    atomic.Bool
	paused      atomic.Bool // like draining, but may end

	occupied occupied

	start        time.Time                    // origin of the clock that rates use
	limits       atomic.Pointer[limit.Quotas] // the limits that quota does not enforce
	throttles    [numDirections]throttle
	day          usage.Day    // if Config.Meter is nil
	active       atomic.Int64 // allocations that relay, as of the last runs of the janitors
	entries      atomic.Int64 // permissions and channels beyond ownEntries of each allocation
	expiredGrace atomic.Int64 // Config.ExpiredGrace as a time.Duration

	// Counters are updated by sessions and links.
	Counters *count.Counters
	samples  limit.Sampler
	builders sync.Pool // of *stun.Builder, for sessions without a loop: see Session.builder
}

// NewShared returns the shared state of the sessions of a server.
func NewShared(config Config) *Shared {
	s := &Shared{
		config:      config,
		Counters:    new(count.Counters),
		nonces:      newNonces(config.NonceKey, config.NonceLifetime),
		quota:       newQuota(config.Quotas, config.Holdings),
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

// moment returns the time at, which is given since s.start. now is the present time. The result is right even if the system's clock has
// been set since.
func (s *Shared) moment(at time.Duration, now time.Time) time.Time {
	return now.Add(at - now.Sub(s.start))
}

// SetQuotas replaces Config.Quotas.
func (s *Shared) SetQuotas(q limit.Quotas) {
	s.quota.limit(q)
	s.limits.Store(&q)
}

// SetExpiredGrace replaces Config.ExpiredGrace. A negative value means none.
func (s *Shared) SetExpiredGrace(grace time.Duration) { s.expiredGrace.Store(int64(max(grace, 0))) }

// Drain makes the server refuse new allocations. It returns a channel that is closed when none remain.
func (s *Shared) Drain() <-chan struct{} {
	s.draining.Store(true)
	return s.quota.whenEmpty()
}

// Pause makes the server refuse new allocations, or accept them again unless Drain was called.
func (s *Shared) Pause(paused bool) { s.paused.Store(paused) }

// Allocations returns the number of relayed addresses.
func (s *Shared) Allocations() int { return s.quota.count() }

// logRefusal logs refused requests at debug level, one per minute for each method and code. Refused Allocate requests are
// reported as events instead.
func (s *Shared) logRefusal(o *origin, code stun.ErrorCode, now time.Time) {
	if o.method == stun.MethodAllocate || !s.config.Logger.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	if skipped, due := s.samples.Next(fmt.Sprint(o.method, int(code)), now); due {
		s.config.Logger.Debug("request refused", "method", o.method.String(), "code", int(code),
			"client", o.client.Tuple.Client.String(), "username", o.username, "skipped", skipped)
	}
}

// logQuota logs that a quota refuses clients. It warns if the quota is that of the whole server, because the operator must act
// on that.
func (s *Shared) logQuota(reached event.RefusalReason, now time.Time) {
	level := slog.LevelInfo
	if reached == event.RefusedTotalQuota {
		level = slog.LevelWarn
	}
	if skipped, due := s.samples.Next(reached.String(), now); due {
		s.config.Logger.Log(context.Background(), level, "allocation refused: quota reached",
			"reason", reached.String(), "skipped", skipped)
	}
}

// logFarExpiry logs that a credential was issued with too long a lifetime.
func (s *Shared) logFarExpiry(expires, now time.Time) {
	if skipped, due := s.samples.Next(event.RefusedFarExpiry.String(), now); due {
		s.config.Logger.Warn("credential refused: expiry is too far in the future", "expires", expires, "skipped", skipped)
	}
}

// logRefusedPeer logs, at intervals, that a rule refuses peers that clients ask for.
func (s *Shared) logRefusedPeer(peer netip.Addr, rule string, now time.Time) {
	if skipped, due := s.samples.Next(rule, now); due {
		s.config.Logger.Info("peer refused", "peer", peer.String(), "rule", rule, "skipped", skipped)
	}
}

// logRelayError logs that relayed addresses cannot be opened.
func (s *Shared) logRelayError(err error, now time.Time) {
	if skipped, due := s.samples.Next("relay", now); due {
		s.config.Logger.Warn("cannot open a relayed address", "err", err, "skipped", skipped)
	}
}

// panicked counts and logs a panic from which a goroutine that is not an event loop has recovered. It is called by a deferred function.
func (s *Shared) panicked(value any) {
	s.Counters.Panics.Add(1)
	s.config.Logger.Error("the server panicked and continues", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
}

// LogAccept logs that a listener cannot accept connections, for example because there are too many open files.
func (s *Shared) LogAccept(listener net.Addr, err error, now time.Time) {
	if skipped, due := s.samples.Next("accept", now); due {
		s.config.Logger.Warn("cannot accept connections", "listen", listener.String(), "err", err, "skipped", skipped)
	}
}
