package turn

import (
	"fmt"
	"sync/atomic"

	"github.com/mailturn/mailturn/framework/module"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// secrets is an Authenticator whose secrets and users can be replaced while it is in use.
type secrets struct {
	verifier atomic.Pointer[credential.Verifier]
}

var _ credential.Authenticator = (*secrets)(nil)

// newVerifier returns a verifier for the secrets and users of c.
func newVerifier(c Config) (*credential.Verifier, error) {
	var users credential.Users
	for _, realm := range append([]UserRealm{{Realm: c.Realm, Users: c.Users}}, c.UserRealms...) {
		for name, password := range realm.Users {
			if err := users.Add(name, realm.Realm, string(password.Bytes())); err != nil {
				return nil, fmt.Errorf("user %q of %s: %w", name, realm.Realm, err)
			}
		}
	}
	return &credential.Verifier{Secrets: c.Secrets, Ring: c.Ring, Users: users, Accounts: c.Accounts, MaxLifetime: c.MaxCredentialLifetime.V}, nil
}

// Lookup implements credential.Authenticator.
func (s *secrets) Lookup(username, realm string) (credential.Grant, bool) {
	return s.verifier.Load().Lookup(username, realm)
}

// Prepare implements module.Reloader. It reads the certificate files again. Running calls continue after Commit, but only for
// expired_grace if their credentials are no longer accepted.
func (e *Endpoint) Prepare(c Config) (module.Change, error) {
	verifier, err := newVerifier(c)
	if err != nil {
		return module.Change{}, err
	}
	e.policyMu.Lock()
	policy, err := e.peerPolicy(c, e.addresses)
	e.policyMu.Unlock()
	if err != nil {
		return module.Change{}, err
	}
	useCertificates, err := e.certs.Prepare(c.TLS)
	if err != nil {
		return module.Change{}, err
	}
	return module.Change{Commit: func() {
		e.policyMu.Lock()
		e.config = c
		if latest, err := e.peerPolicy(c, e.addresses); err == nil { // the addresses of the machine may have changed meanwhile
			policy = latest
		}
		e.allocator.SetPeers(policy)
		e.policy = policy
		e.policyMu.Unlock()
		e.secrets.verifier.Store(verifier)
		e.server.Load().SetQuotas(c.quotas())
		e.server.Load().SetExpiredGrace(orNone(c.ExpiredGrace))
		e.withdrawFromKernel()
		useCertificates()
	}}, nil
}
