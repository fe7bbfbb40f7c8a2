package acme

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"

	"github.com/mailturn/mailturn/framework/atomicfile"
	"github.com/mailturn/mailturn/framework/config"
)

const (
	// maxSleep is the time between two checks of a valid certificate. Each check asks the authority whether the certificate must be
	// renewed early, unless the authority has said when to ask again.
	maxSleep = time.Hour
	// repeatLog is the time between two log lines about the same problem.
	repeatLog = 24 * time.Hour
)

// A keeper obtains and renews one certificate. Except for wake, it belongs to its goroutine.
type keeper struct {
	*run
	name   string
	logger *slog.Logger
	now    func() time.Time
	wake   chan struct{} // makes it check now

	failures int
	problem  string    // the kind of the last failure, or ""
	logged   time.Time // when it was logged

	info    acme.RenewalInfo // of the certificate infoOf
	infoOf  string
	askNext time.Time
}

// keep maintains the certificate until ctx is done.
func (k *keeper) keep(ctx context.Context) {
	for {
		timer := time.NewTimer(k.look(ctx))
		select {
		case <-timer.C:
		case <-k.wake:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// look obtains or renews the certificate if necessary, and returns when to check again.
func (k *keeper) look(ctx context.Context) time.Duration {
	present, err := k.stored(ctx)
	if err != nil {
		return k.failed(ctx, err, nil)
	}
	if present != nil {
		if err := k.export(present); err != nil {
			return k.failed(ctx, err, present)
		}
		if wait := k.renewal(ctx, present).Sub(k.now()); wait > 0 && present.hasKeyOf(k.settings) {
			return min(wait, maxSleep)
		}
	} else if k.failures == 0 {
		k.logger.Warn("no certificate yet, handshakes for this name fail until there is one", "directory", k.settings.Directory, "challenge", k.settings.Challenge)
	}
	if err := k.request(ctx, k.name, present != nil); err != nil {
		return k.failed(ctx, err, present)
	}
	obtained, err := k.stored(ctx)
	if err == nil && obtained == nil {
		err = errors.New("the certificate that was obtained is not in the storage")
	}
	if err == nil {
		err = k.export(obtained)
	}
	if err == nil {
		err = obtained.checkClock(k.now())
	}
	if err != nil {
		return k.failed(ctx, err, obtained)
	}
	k.failures, k.problem = 0, ""
	wait := max(k.renewal(ctx, obtained).Sub(k.now()), obtained.rest())
	k.logger.Info("certificate obtained", "expires", obtained.leaf.NotAfter, "renewal", k.now().Add(wait).UTC().Truncate(time.Second))
	return min(wait, maxSleep)
}

// failed logs why there is no new certificate, if the reason is new, and returns when to retry. present is the existing
// certificate, or nil.
func (k *keeper) failed(ctx context.Context, err error, present *certificate) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	r := k.explain(ctx, err)
	k.failures++
	wait := r.wait(k.failures)
	if now := k.now(); r.kind != k.problem || now.Sub(k.logged) >= repeatLog {
		k.problem, k.logged = r.kind, now
		level := slog.LevelError
		if present != nil && now.Before(present.leaf.NotAfter) {
			level = slog.LevelWarn
		}
		k.logger.Log(ctx, level, "certificate not obtained", "err", r, "place", config.Place(k.settings.Range), "again_in", wait.Round(time.Second))
	} else {
		k.logger.Debug("certificate not obtained", "err", err, "again_in", wait.Round(time.Second))
	}
	return wait
}

// A certificate is a stored certificate.
type certificate struct {
	leaf *x509.Certificate
	pem  []byte // the chain and the key
}

// stored returns the certificate issued by the authority in use, or nil if there is none.
func (k *keeper) stored(ctx context.Context) (*certificate, error) {
	authority := k.issuer.IssuerKey()
	chain, err := k.storage.Load(ctx, certmagic.StorageKeys.SiteCert(authority, k.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	key, err := k.storage.Load(ctx, certmagic.StorageKeys.SitePrivateKey(authority, k.name))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil { // a killed process has left a chain and a key that do not match: renewal replaces both
		k.logger.Warn("stored certificate cannot be used, requesting another one", "err", err)
		return nil, k.config.Storage.Delete(ctx, certmagic.StorageKeys.CertsSitePrefix(authority, k.name))
	}
	return &certificate{pair.Leaf, bytes.Join([][]byte{bytes.TrimSpace(chain), bytes.TrimSpace(key), nil}, []byte("\n"))}, nil
}

// export writes the file that package certs watches.
func (k *keeper) export(c *certificate) error {
	path := File(k.settings.Dir, k.name)
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, c.pem) {
		return nil
	}
	return atomicfile.Replace(path, c.pem, atomicfile.Private)
}

// hasKeyOf reports whether the key is of the configured type.
func (c *certificate) hasKeyOf(s Settings) bool {
	_, isRSA := c.leaf.PublicKey.(*rsa.PublicKey)
	return isRSA == s.RSA
}

// due returns when a third of the lifetime is left.
func (c *certificate) due() time.Time {
	return c.leaf.NotAfter.Add(-c.leaf.NotAfter.Sub(c.leaf.NotBefore) / 3)
}

// rest returns how long a new certificate is not renewed, whatever the authority suggests.
func (c *certificate) rest() time.Duration {
	return min(maxSleep, c.leaf.NotAfter.Sub(c.leaf.NotBefore)/6)
}

// checkClock returns an error if a certificate that has just been issued is not in the first two thirds of its lifetime: the clock
// of this machine is wrong then, and renewing the certificate would not help.
func (c *certificate) checkClock(now time.Time) error {
	if now.Add(time.Minute).Before(c.leaf.NotBefore) || !now.Before(c.due()) {
		return &clockError{now, fmt.Errorf("the certificate that was issued just now is good from %s to %s",
			c.leaf.NotBefore.UTC().Format(time.RFC3339), c.leaf.NotAfter.UTC().Format(time.RFC3339))}
	}
	return nil
}

// renewal returns when to renew a certificate: when the authority suggests (RFC 9773), but before only a sixth of the lifetime is
// left; or otherwise when a third is left.
func (k *keeper) renewal(ctx context.Context, c *certificate) time.Time {
	if serial := c.leaf.SerialNumber.String(); serial != k.infoOf {
		k.info, k.infoOf, k.askNext = acme.RenewalInfo{}, serial, time.Time{}
	}
	if now := k.now(); !now.Before(k.askNext) {
		k.askNext = now.Add(maxSleep)
		info, err := k.issuer.GetRenewalInfo(ctx, certmagic.Certificate{Certificate: tls.Certificate{Leaf: c.leaf}})
		switch {
		case err != nil:
			k.logger.Debug("authority not asked about renewal", "err", err)
		case !info.SameWindow(k.info):
			k.info = info
		}
		if err == nil && info.RetryAfter != nil {
			k.askNext = *info.RetryAfter
		}
	}
	if !k.info.HasWindow() {
		return c.due()
	}
	if last := c.leaf.NotAfter.Add(-c.leaf.NotAfter.Sub(c.leaf.NotBefore) / 6); k.info.SelectedTime.After(last) {
		return last
	}
	return k.info.SelectedTime
}

// Limits of the time between two attempts. The authority's limits are per hour: Let's Encrypt allows five failed validations of a
// name.
const (
	minLocalWait, maxLocalWait         = 5 * time.Second, 10 * time.Minute
	minAuthorityWait, maxAuthorityWait = 2 * time.Minute, 6 * time.Hour
)

// wait returns the time until the next attempt after that many failures, a tenth of which is random.
func (r refusal) wait(failures int) time.Duration {
	least, most := minLocalWait, maxLocalWait
	switch {
	case r.costly && r.kind == kindClock || r.kind == kindRateLimit:
		least, most = maxAuthorityWait, maxAuthorityWait
	case r.costly:
		least, most = minAuthorityWait, maxAuthorityWait
	}
	wait := min(least<<min(failures-1, 16), most)
	return wait - rand.N(wait/10)
}
