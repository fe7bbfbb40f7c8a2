package credential

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	accountsSecret = NewSecret([]byte("test-secret"))
	fiveDays       = Issuer{Secret: accountsSecret, TTL: 120 * time.Hour}
)

func TestAccountsAreToldApart(t *testing.T) {
	var a Accounts
	now := time.Unix(1758650868, 0)
	issued := make(map[string]string)
	for i := range 10000 { // a quarter of the window's seconds, so that there are thousands of collisions
		account := fmt.Sprintf("user%d@example.org", i)
		c := a.Issue(fiveDays, account, now)
		if other, taken := issued[c.Username]; taken {
			t.Fatalf("%s and %s are both %s", account, other, c.Username)
		}
		issued[c.Username] = account
		seconds, err := strconv.ParseInt(c.Username, 10, 64) // as Delta Chat reads it
		if err != nil || c.Expires.Unix() != seconds || c.Password != Password(accountsSecret, c.Username) {
			t.Fatalf("%v, password %q: %v", c, c.Password, err)
		}
		if left := c.Expires.Sub(now); left > fiveDays.TTL || left <= fiveDays.ShortestTTL() {
			t.Fatalf("%s is good for %v", c, left)
		}
	}
	for username, account := range issued {
		if got, ok := a.Account(username); !ok || got != account {
			t.Errorf("%s is of %q, %v, want %q", username, got, ok, account)
		}
		// The verifier knows the account, but only for names without a user in them.
		verifier := Verifier{Secrets: []Secret{accountsSecret}, Accounts: &a}
		if grant, ok := verifier.Lookup(username, "example.org"); !ok || grant.Keys[0].Subject != (Subject{Name: account}) {
			t.Errorf("%s is granted to %v, %v, want %q", username, grant.Keys[0].Subject, ok, account)
		}
		if grant, ok := verifier.Lookup(username+":bob", "example.org"); !ok || grant.Keys[0].Subject != (Subject{Name: "bob"}) {
			t.Errorf("%s:bob is granted to %v, %v", username, grant.Keys[0].Subject, ok)
		}
	}
	for _, username := range []string{"1", "", "alice", "user0@example.org"} {
		if account, ok := a.Account(username); ok {
			t.Errorf("%q is said to be of %q", username, account)
		}
	}
	var nobody *Accounts
	if account, ok := nobody.Account("1"); ok {
		t.Errorf("nil knows %q", account)
	}
}

func TestAccountsKeepTheirNameForAWindow(t *testing.T) {
	var a Accounts
	window := fiveDays.TTL - fiveDays.ShortestTTL()
	start := time.Unix(1758650868, 0)
	names := make(map[string]bool)
	for at := time.Duration(0); at < 10*window; at += window / 20 {
		for _, account := range []string{"alice@example.org", "Alice@Example.ORG"} {
			c := a.Issue(fiveDays, account, start.Add(at))
			names[c.Username] = true
			if left := c.Expires.Sub(start.Add(at)); left > fiveDays.TTL || left <= fiveDays.ShortestTTL() {
				t.Fatalf("good for %v", left)
			}
			if got, _ := a.Account(c.Username); got != "alice@example.org" {
				t.Errorf("%s is of %q", c.Username, got)
			}
		}
	}
	if len(names) < 10 || len(names) > 11 {
		t.Errorf("%d user names in 10 windows", len(names))
	}
}

// TestAccountsOfOtherProcesses checks that all issuers that share a secret give an account the same name, and others do not.
func TestAccountsOfOtherProcesses(t *testing.T) {
	now := time.Unix(1758650868, 0)
	var here, there, elsewhere Accounts
	first := here.Issue(fiveDays, "alice@example.org", now)
	if second := there.Issue(fiveDays, "alice@example.org", now.Add(time.Second)); second != first {
		t.Errorf("%v and %v", first, second)
	}
	other := Issuer{Secret: NewSecret([]byte("another secret")), TTL: fiveDays.TTL}
	if third := elsewhere.Issue(other, "alice@example.org", now); third.Username == first.Username {
		t.Errorf("%v under both secrets", third)
	}
}

// TestUnknownAccounts checks that a client whose login mechanism hides the account is not mistaken for another account.
func TestUnknownAccounts(t *testing.T) {
	var a Accounts
	now := time.Unix(1758650868, 0)
	alice := a.Issue(fiveDays, "alice@example.org", now)
	collision := alice.Expires.Add(-fiveDays.TTL) // when Issuer.Issue would make the same name
	unknown := a.Issue(fiveDays, "", collision)
	if unknown.Username == alice.Username {
		t.Errorf("%v is alice's name", unknown)
	}
	if account, ok := a.Account(unknown.Username); !ok || account != unknown.Username {
		t.Errorf("%v is said to be of %q, %v, want it to be known by its own name", unknown, account, ok)
	}
	if account, ok := a.Account(alice.Username); !ok || account != "alice@example.org" {
		t.Errorf("alice is %q, %v", account, ok)
	}
	if long := a.Issue(fiveDays, strings.Repeat("x", 256), collision); long.Username == unknown.Username {
		t.Errorf("%v for a name of 256 bytes, which somebody has", long)
	} else if account, ok := a.Account(long.Username); !ok || account != long.Username {
		t.Errorf("%v for a name of 256 bytes is of %q, %v", long, account, ok)
	}
	later := collision.Add(time.Second)
	if unknown, want := a.Issue(fiveDays, "", later), fiveDays.Issue(later); want.Expires.Sub(unknown.Expires) > time.Second {
		t.Errorf("%v for a free second, want %v", unknown, want)
	}
}

// TestUnknownAccountsAreToldApart checks that each request in the same second gets a user name of its own, and that accounts
// remain known.
func TestUnknownAccountsAreToldApart(t *testing.T) {
	var a Accounts
	now := time.Unix(1758650868, 0)
	alice := a.Issue(fiveDays, "alice@example.org", now)
	issued := map[string]bool{alice.Username: true}
	const n = 15000 // of the 21600 even seconds in the window
	for range n {
		c := a.Issue(fiveDays, "", now)
		if issued[c.Username] {
			t.Fatalf("%v is issued twice", c)
		}
		issued[c.Username] = true
		if left := c.Expires.Sub(now); left > fiveDays.TTL || left <= fiveDays.ShortestTTL() {
			t.Fatalf("%v is good for %v", c, left)
		}
	}
	verifier := Verifier{Secrets: []Secret{accountsSecret}, Accounts: &a}
	for username := range issued {
		want := Subject{Name: username}
		if username == alice.Username {
			want.Name = "alice@example.org"
		}
		if grant, ok := verifier.Lookup(username, "example.org"); !ok || grant.Keys[0].Subject != want {
			t.Fatalf("%s is granted to %v, %v, want %v", username, grant.Keys[0].Subject, ok, want)
		}
	}
	if grant, ok := verifier.Lookup("+"+alice.Username, "example.org"); !ok || !grant.Keys[0].Subject.Anonymous {
		t.Errorf("a name that was not issued here is granted to %v, %v", grant.Keys[0].Subject, ok)
	}

	year := Issuer{Secret: accountsSecret, TTL: 365 * 24 * time.Hour}
	for range 2*maxIssued + 1000 {
		a.Issue(year, "", now)
	}
	if young, old := len(a.unknown.young.accounts), len(a.unknown.old.accounts); young > maxIssued || old > maxIssued {
		t.Errorf("%d and %d names are remembered", young, old)
	}
	if account, ok := a.Account(alice.Username); !ok || account != "alice@example.org" {
		t.Errorf("alice is %q, %v when many have asked who are not known", account, ok)
	}

	// An account has a second of its own, however many requests there were.
	for i := range 1000 {
		account := fmt.Sprint("user", i)
		c := a.Issue(year, account, now)
		if got, ok := a.Account(c.Username); !ok || got != account {
			t.Fatalf("%v is of %q, %v, want %q", c, got, ok, account)
		}
	}

	// When no seconds are left, the last one is shared and attributed to no account.
	var full Accounts
	brief := Issuer{Secret: accountsSecret, TTL: 10 * time.Second} // a window of one second
	full.Issue(brief, "", now)
	shared := full.Issue(brief, "", now)
	if account, ok := full.Account(shared.Username); ok {
		t.Errorf("a shared name is said to be of %q", account)
	}
}

// TestAccountsShareASecondWhenTheyMust checks that no account is held responsible for the calls of another one when there are
// more accounts than seconds.
func TestAccountsShareASecondWhenTheyMust(t *testing.T) {
	var a Accounts
	issuer := Issuer{Secret: accountsSecret, TTL: 10 * time.Minute} // a window of 60 seconds
	now := time.Unix(1758650868, 0)
	issued := make(map[string]string)
	for i := range 60 {
		account := fmt.Sprint("user", i)
		c := a.Issue(issuer, account, now)
		issued[c.Username] = account
		if left := c.Expires.Sub(now); left > issuer.TTL || left <= issuer.ShortestTTL() {
			t.Errorf("%v is good for %v", c, left)
		}
	}
	if len(issued) != 60 {
		t.Errorf("%d user names for 60 accounts and as many seconds", len(issued))
	}
	shared := a.Issue(issuer, "one more", now)
	if account, ok := a.Account(shared.Username); ok {
		t.Errorf("a shared name is said to be of %q", account)
	}
	again := a.Issue(issuer, issued[shared.Username], now) // who had it alone asks again, and may have to share another one
	if account, ok := a.Account(shared.Username); ok {
		t.Errorf("a shared name is said to be of %q again", account)
	}
	delete(issued, shared.Username)
	delete(issued, again.Username)
	for username, account := range issued {
		if got, _ := a.Account(username); got != account {
			t.Errorf("%s is of %q, want %q", username, got, account)
		}
	}
	if left := shared.Expires.Sub(now); left > issuer.TTL || left <= issuer.ShortestTTL() {
		t.Errorf("the shared name is good for %v", left)
	}
}

// TestAccountsAreForgotten checks that the memory is limited by number and by time.
func TestAccountsAreForgotten(t *testing.T) {
	var a Accounts
	year := Issuer{Secret: accountsSecret, TTL: 365 * 24 * time.Hour} // which has room for all of them
	now := time.Unix(1758650868, 0)
	const n = 2*maxIssued + 1000
	var names []string
	for i := range n {
		names = append(names, a.Issue(year, fmt.Sprint("user", i), now).Username)
	}
	if young, old := len(a.known.young.accounts), len(a.known.old.accounts); young > maxIssued || old > maxIssued {
		t.Errorf("%d and %d names are remembered", young, old)
	}
	if account, ok := a.Account(names[0]); ok {
		t.Errorf("the oldest name is still that of %q", account)
	}
	for i := n - maxIssued; i < n; i++ {
		if account, ok := a.Account(names[i]); !ok || account != fmt.Sprint("user", i) {
			t.Fatalf("name %d is of %q, %v", i, account, ok)
		}
	}

	for range 4 {
		now = now.Add(year.TTL)
		a.Issue(year, "alice", now)
	}
	if young, old := len(a.known.young.accounts), len(a.known.old.accounts); young+old > 4 {
		t.Errorf("%d and %d names are remembered when all others have expired", young, old)
	}
}

func TestAccountsFromManyGoroutines(t *testing.T) {
	var a Accounts
	var wait sync.WaitGroup
	now := time.Unix(1758650868, 0)
	for i := range 8 {
		wait.Go(func() {
			for j := range 500 {
				account := fmt.Sprint("user", (i+j)%100)
				c := a.Issue(fiveDays, account, now)
				if got, ok := a.Account(c.Username); !ok || got != account {
					t.Errorf("%v is of %q, %v, want %q", c, got, ok, account)
				}
			}
		})
	}
	wait.Wait()
}

// BenchmarkAccountsIssue issues one credential for one of 10000 accounts.
func BenchmarkAccountsIssue(b *testing.B) {
	var a Accounts
	now := time.Unix(1758650868, 0)
	accounts := make([]string, 10000)
	for i := range accounts {
		accounts[i] = fmt.Sprintf("user%d@example.org", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		a.Issue(fiveDays, accounts[i%len(accounts)], now)
	}
}

// TestUsernames expects the user names of each window in which an account requested credentials, and no others.
func TestUsernames(t *testing.T) {
	var accounts Accounts
	issuer := Issuer{Secret: NewSecret([]byte("0123456789abcdef0123456789abcdef")), TTL: 10 * time.Hour}
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	var want []string
	for i := range 3 {
		at := now.Add(time.Duration(i) * 2 * time.Hour)
		want = append(want, accounts.Issue(issuer, "alice@example.org", at).Username)
		accounts.Issue(issuer, "bob@example.org", at)
		accounts.Issue(issuer, "", at)
	}
	if got := accounts.Usernames("Alice@example.org"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := accounts.Usernames("carol@example.org"); got != nil {
		t.Errorf("carol has %v", got)
	}
	if got := (*Accounts)(nil).Usernames("alice@example.org"); got != nil {
		t.Errorf("nobody has issued %v", got)
	}
}
