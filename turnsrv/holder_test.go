package turnsrv

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// replaceable is an Authenticator that can be replaced, as in an endpoint whose configuration is reloaded.
type replaceable struct {
	atomic.Pointer[credential.Verifier]
}

func (r *replaceable) Lookup(username, realm string) (credential.Grant, bool) {
	return r.Load().Lookup(username, realm)
}

// verifier returns a Verifier with a secret and the static user alice, unless password is empty.
func verifier(t *testing.T, password, secret string) *credential.Verifier {
	t.Helper()
	v := &credential.Verifier{Secrets: []credential.Secret{credential.NewSecret([]byte(secret))}, MaxLifetime: 48 * time.Hour}
	if password != "" {
		if err := v.Users.Add("alice", turntest.TestRealm, password); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// TestGraceIsReplaced checks that an operator whose secret has leaked can end the allocations that use it.
func TestGraceIsReplaced(t *testing.T) {
	users := new(replaceable)
	users.Store(verifier(t, "secret of alice", turntest.TestSecret))
	inBubble(t, func(c *Config) { c.NonceLifetime, c.Authenticator = time.Hour, users }, func(b *bubble) {
		good, withdrawn := b.client(), b.client()
		good.use(credential.Credential{Username: "alice", Password: "secret of alice"})
		good.allocate()
		withdrawn.allocate()
		users.Store(verifier(t, "secret of alice", "another secret"))
		withdrawn.want(withdrawn.request(stun.MethodRefresh), 0)
		b.server.SetExpiredGrace(-1)
		withdrawn.want(withdrawn.request(stun.MethodRefresh), 401)
		good.want(good.request(stun.MethodRefresh), 0)
		b.server.SetExpiredGrace(time.Minute)
		withdrawn.want(withdrawn.request(stun.MethodRefresh), 0)
		time.Sleep(time.Minute)
		withdrawn.want(withdrawn.request(stun.MethodRefresh), 401)
	})
}

// TestWithdrawnCredentialEndsInACall checks that the grace of an allocation begins when its credential is no longer granted, for
// whatever reason, and that it ends.
func TestWithdrawnCredentialEndsInACall(t *testing.T) {
	const password = "secret of alice"
	alice := credential.Credential{Username: "alice", Password: password}
	issue := func(ttl time.Duration) credential.Credential {
		return credential.Issuer{Secret: credential.NewSecret([]byte(turntest.TestSecret)), TTL: ttl}.Issue(time.Now())
	}
	for _, tt := range []struct {
		name       string
		credential func() credential.Credential
		after      func() *credential.Verifier
		grace      time.Duration // for which refreshes succeed; 0 means throughout
	}{
		{"user deleted", func() credential.Credential { return alice },
			func() *credential.Verifier { return verifier(t, "", turntest.TestSecret) }, 0},
		{"password changed", func() credential.Credential { return alice },
			func() *credential.Verifier { return verifier(t, "another one", turntest.TestSecret) }, 0},
		{"secret rotated out", func() credential.Credential { return issue(47 * time.Hour) },
			func() *credential.Verifier { return verifier(t, password, "another secret") }, 0},
		{"secret rotated out, expired before", func() credential.Credential { return issue(time.Minute) },
			func() *credential.Verifier { return verifier(t, password, "another secret") }, DefaultExpiredGrace - 10*time.Minute},
		{"bound lowered", func() credential.Credential { return issue(47 * time.Hour) }, func() *credential.Verifier {
			v := verifier(t, password, turntest.TestSecret)
			v.MaxLifetime = time.Hour
			return v
		}, DefaultExpiredGrace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			users := new(replaceable)
			users.Store(verifier(t, password, turntest.TestSecret))
			change := func(c *Config) { c.NonceLifetime, c.Authenticator = 72*time.Hour, users }
			inBubble(t, change, func(b *bubble) {
				c := b.client()
				c.use(tt.credential())
				c.allocate()
				refreshFor := func(d time.Duration) {
					t.Helper()
					for start := time.Now(); time.Since(start) < d; {
						time.Sleep(5 * time.Minute)
						c.want(c.request(stun.MethodRefresh), 0)
					}
				}
				refreshFor(10 * time.Minute)

				users.Store(tt.after())
				newcomer := b.client()
				newcomer.use(c.credential)
				newcomer.want(newcomer.request(stun.MethodAllocate, turntest.TransportUDP), 401)
				if tt.grace == 0 {
					refreshFor(time.Hour)
					users.Store(verifier(t, password, turntest.TestSecret)) // a mistake that is corrected
					refreshFor(30 * time.Hour)
					users.Store(tt.after())
					tt.grace = DefaultExpiredGrace
				}
				refreshFor(tt.grace)
				time.Sleep(5 * time.Minute)
				c.want(c.request(stun.MethodRefresh), 401)
				c.want(c.request(stun.MethodCreatePermission, turntest.PeerAddr(turntest.PublicPeer)), 401)
			})
		})
	}
}
