package credential

import (
	"fmt"
	"testing"
	"time"
)

// TestRevokedIsNotIssued wants an account to get a credential that expires later than those that were revoked, which stays the same, and
// others to keep theirs.
func TestRevokedIsNotIssued(t *testing.T) {
	issuer := Issuer{NewSecret([]byte("0123456789abcdef")), 120 * time.Hour}
	for _, zeros := range []int{0, 5} {
		var a Accounts
		a.SetZeros(zeros)
		now := time.Unix(1796000000, 0)
		bob := a.Issue(issuer, "bob", now)
		first := a.Issue(issuer, "Alice", now)
		through := now.Add(issuer.TTL)
		a.SetRevoked(Revoked{Through: map[string]time.Time{"alice": through}, Usernames: []string{bob.Username}})
		if again := a.Issue(issuer, "bob", now); again.Username == bob.Username {
			t.Errorf("%s was revoked, and is issued again", bob.Username)
		}
		seen := map[string]bool{first.Username: true}
		for after := time.Duration(0); after < 2*issuer.TTL; after += 10 * time.Minute {
			now := now.Add(after)
			c := a.Issue(issuer, "alice", now)
			if !c.Expires.After(through) || c.Expires.After(now.Add(issuer.TTL+time.Minute+5*time.Second)) || c.Expires.Before(now.Add(issuer.ShortestTTL())) {
				t.Fatalf("after %v: %v, revoked through %v", after, c, through)
			}
			if account, ok := a.Account(c.Username); !ok || account != "alice" {
				t.Fatalf("%s is attributed to %q", c.Username, account)
			}
			seen[c.Username] = true
		}
		if len(seen) > 24 { // two TTLs have 20 windows
			t.Errorf("%d user names", len(seen))
		}
		for i := range 60 { // who are revoked at the same time
			name := fmt.Sprint("user", i)
			a.SetRevoked(Revoked{Through: map[string]time.Time{name: through}})
			if c := a.Issue(issuer, name, now); !c.Expires.After(through) {
				t.Errorf("%s gets %v", name, c)
			} else if account, ok := a.Account(c.Username); !ok || account != name {
				t.Errorf("%s is attributed to %q", c.Username, account)
			}
		}
	}
}

func TestLater(t *testing.T) {
	issuer, now := Issuer{NewSecret([]byte("0123456789abcdef")), time.Hour}, time.Unix(1796000000, 0)
	var a Accounts
	a.SetRevoked(Revoked{Through: map[string]time.Time{"alice": now.Add(2 * time.Hour)}})
	if c := issuer.IssueFor("Alice", a.Later(issuer, "Alice", now)); c.Expires != now.Add(2*time.Hour+time.Second).UTC() {
		t.Errorf("%v", c)
	}
	var none *Accounts
	for _, got := range []time.Time{a.Later(issuer, "bob", now), a.Later(issuer, "alice", now.Add(3*time.Hour)).Add(-3 * time.Hour), none.Later(issuer, "alice", now)} {
		if got != now {
			t.Errorf("%v, want %v", got, now)
		}
	}
}

// TestRing wants a Verifier to accept the secrets of its Ring, too, as they are now.
func TestRing(t *testing.T) {
	fixed, rotated := NewSecret([]byte("0123456789abcdef")), NewSecret([]byte("fedcba9876543210"))
	ring := new(Ring)
	v := Verifier{Secrets: []Secret{fixed}, Ring: ring}
	for n, accepted := range [][]Secret{nil, {rotated}, {}} {
		ring.Set(accepted, nil)
		grant, ok := v.Lookup("1796000000", "r")
		if want := 1 + n%2; !ok || len(grant.Keys) != want {
			t.Errorf("%d keys, want %d", len(grant.Keys), want)
		}
	}
	var none *Ring
	if none.Accepted() != nil || none.Issuing() != nil {
		t.Error("a nil Ring has secrets")
	}
}
