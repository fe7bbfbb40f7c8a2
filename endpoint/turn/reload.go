package turn

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// secrets is an Authenticator whose secrets can be replaced while it is in use.
type secrets struct {
	verifier atomic.Pointer[credential.Verifier]
}

var _ turnsrv.Authenticator = (*secrets)(nil)

func (s *secrets) set(secrets []credential.Secret) {
	s.verifier.Store(&credential.Verifier{Secrets: secrets})
}

// Lookup implements turnsrv.Authenticator.
func (s *secrets) Lookup(username, realm string) (credential.Grant, bool) {
	return s.verifier.Load().Lookup(username, realm)
}

// Reload applies a new configuration to the running endpoint: secrets, peers, quotas, drain_timeout, and what has changed
// in the certificate files. Running calls go on, with the credentials that they began with. What else has changed needs a
// new start: pending lists the names of these attributes. On an error nothing was changed.
//
// It must not be called before Start, or concurrently with other methods.
func (e *Endpoint) Reload(c Config) (pending []string, err error) {
	policy, err := peerPolicy(c, e.addresses)
	if err != nil {
		return nil, err
	}
	if e.certs != nil {
		if err := e.certs.Reload(); err != nil {
			return nil, fmt.Errorf("the certificate in use stays: %w", err)
		}
	}
	e.secrets.set(c.Secrets)
	e.allocator.SetPeers(policy)
	e.server.SetQuotas(c.TotalQuota, c.UserQuota)

	old := e.config
	e.config.Secrets, e.config.PeersAllow, e.config.PeersDeny = c.Secrets, c.PeersAllow, c.PeersDeny
	e.config.TotalQuota, e.config.UserQuota, e.config.DrainTimeout = c.TotalQuota, c.UserQuota, c.DrainTimeout
	for name, changed := range map[string]bool{
		"listen":        !slices.Equal(old.Listen, c.Listen),
		"tls":           !slices.Equal(old.TLS, c.TLS),
		"realm":         old.Realm != c.Realm,
		"relay_ip":      !slices.Equal(old.RelayIP, c.RelayIP),
		"relay_bind":    !slices.Equal(old.RelayBind, c.RelayBind),
		"relay_ports":   old.MinPort != c.MinPort || old.MaxPort != c.MaxPort,
		"expired_grace": old.ExpiredGrace != c.ExpiredGrace,
	} {
		if changed {
			pending = append(pending, name)
		}
	}
	slices.Sort(pending)
	return pending, nil
}
