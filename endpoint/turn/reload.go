package turn

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// secrets is an Authenticator whose secrets and users can be replaced while it is in use.
type secrets struct {
	verifier atomic.Pointer[credential.Verifier]
}

var _ turnsrv.Authenticator = (*secrets)(nil)

// newVerifier takes the secrets and users of c.
func newVerifier(c Config) (*credential.Verifier, error) {
	var users credential.Users
	for _, realm := range append([]UserRealm{{Realm: c.Realm, Users: c.Users}}, c.UserRealms...) {
		for name, password := range realm.Users {
			if err := users.Add(name, realm.Realm, string(password.Bytes())); err != nil {
				return nil, fmt.Errorf("user %q of %s: %w", name, realm.Realm, err)
			}
		}
	}
	return &credential.Verifier{Secrets: c.Secrets, Users: users, Accounts: c.Accounts, MaxLifetime: c.MaxCredentialLifetime}, nil
}

// Lookup implements turnsrv.Authenticator.
func (s *secrets) Lookup(username, realm string) (credential.Grant, bool) {
	return s.verifier.Load().Lookup(username, realm)
}

// NeedsRestart returns the names of the attributes, sorted, that differ between the running configuration and c and that
// Reload cannot change.
func (e *Endpoint) NeedsRestart(c Config) []string {
	var names []string
	for name, changed := range map[string]bool{
		"listen":         !slices.Equal(e.config.Listen, c.Listen),
		"tls":            !slices.Equal(e.config.TLS, c.TLS),
		"realm":          e.config.Realm != c.Realm,
		"user_realm":     !maps.Equal(e.config.realms(), c.realms()),
		"relay_ip":       !slices.Equal(e.config.RelayIP, c.RelayIP),
		"relay_bind":     !slices.Equal(e.config.RelayBind, c.RelayBind),
		"relay_ports":    e.config.MinPort != c.MinPort || e.config.MaxPort != c.MaxPort,
		"proxy_protocol": !slices.Equal(e.config.ProxyProtocol, c.ProxyProtocol),

		"peers.silent_bytes":   e.config.SilentPeerBytes != c.SilentPeerBytes,
		"default_family":       e.config.DefaultFamily != c.DefaultFamily,
		"max_lifetime":         e.config.MaxLifetime != c.MaxLifetime,
		"nonce_lifetime":       e.config.NonceLifetime != c.NonceLifetime,
		"software":             e.config.Software != c.Software,
		"unauthenticated_rate": e.config.UnauthenticatedRate != c.UnauthenticatedRate,
		"max_guesses":          e.config.MaxGuesses != c.MaxGuesses,
	} {
		if changed {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Reload applies a new configuration to the running endpoint: secrets, users, max_credential_lifetime, expired_grace, peers,
// quotas, drain_timeout, and what has changed in the certificate files. Running calls go on, but only for expired_grace if
// their credentials are not accepted any more. It fails, and changes nothing, if NeedsRestart names something, or if a
// certificate cannot be used.
//
// It must not be called before Start, or concurrently with other methods.
func (e *Endpoint) Reload(c Config) error {
	if names := e.NeedsRestart(c); len(names) > 0 {
		return fmt.Errorf("a change of %s needs a new start", strings.Join(names, ", "))
	}
	e.policyMu.Lock()
	defer e.policyMu.Unlock()
	policy, err := e.peerPolicy(c, e.addresses)
	if err != nil {
		return err
	}
	verifier, err := newVerifier(c)
	if err != nil {
		return err
	}
	if e.certs != nil {
		if err := e.certs.Reload(); err != nil {
			return fmt.Errorf("the certificate in use stays: %w", err)
		}
	}
	e.secrets.verifier.Store(verifier)
	e.allocator.SetPeers(policy)
	e.server.Load().SetQuotas(c.Quotas)
	e.server.Load().SetExpiredGrace(limit(c.ExpiredGrace))
	e.config = c
	return nil
}
