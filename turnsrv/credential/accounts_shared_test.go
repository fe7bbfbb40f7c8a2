package credential

import (
	"fmt"
	"testing"
	"time"
)

// TestAccountsOfSeveralIssuers has two processes issue to the same seconds, and a relay attribute the names.
func TestAccountsOfSeveralIssuers(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var one, two, relay Accounts
	two.SetZeros(2)
	names := make(map[string]string)
	for _, a := range []*Accounts{&one, &two} {
		a.Publish()
		for i := range 3000 {
			account := fmt.Sprintf("user%d@%p", i, a)
			c := a.Issue(fiveDays, account, now)
			if other, taken := names[c.Username]; taken {
				t.Fatalf("%s was issued to %s and %s", c.Username, other, account)
			}
			names[c.Username] = account
			if c.Expires.Before(now.Add(fiveDays.ShortestTTL())) || c.Password != Password(accountsSecret, c.Username) {
				t.Fatalf("%v", c)
			}
		}
		issued, complete := a.Issued()
		if len(issued) != 3000 || !complete {
			t.Fatalf("%d names, %v", len(issued), complete)
		}
		relay.Learn(issued, false, now)
		a.Issue(fiveDays, fmt.Sprintf("user0@%p", a), now)
		if again, _ := a.Issued(); len(again) != 0 {
			t.Errorf("a name that is known is published again: %v", again)
		}
		if all := a.All(now); len(all) != 3000 {
			t.Errorf("%d names in all", len(all))
		}
	}
	for username, account := range names {
		if got, ok := relay.Account(username); !ok || got != account {
			t.Fatalf("%s belongs to %q, %v, want %q", username, got, ok, account)
		}
	}
	if got := relay.Usernames(names["00"]); len(got) != 0 {
		t.Errorf("nobody has %v", got)
	}
	account := fmt.Sprintf("user0@%p", &two)
	if got := relay.Usernames(account); len(got) != 1 || names[got[0]] != account {
		t.Errorf("%s has %v", account, got)
	}
}

func TestLearn(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var a Accounts
	a.Learn([]Issued{
		{"01800000100", "Alice"}, {"1800000100", "bob"}, {"1800000101", "carol"}, {"1800000101", "dave"}, {"1800000102", ""},
		{"1799999999", "late"}, {"+1800000103", "sign"}, {"0", "zero"}, {"", "empty"}, {"1800000104:erin", "erin"}, {"-1800000105", "minus"},
	}, false, now)
	for username, want := range map[string]string{
		"01800000100": "alice", "1800000100": "bob", "1800000101": "", "1800000102": "", "1799999999": "", "+1800000103": "", "0": "", "": "",
		"001800000100": "", "-1800000105": "",
	} {
		if got, ok := a.Account(username); got != want || ok != (want != "") {
			t.Errorf("%q belongs to %q, %v, want %q", username, got, ok, want)
		}
	}
	if issued, complete := a.Issued(); len(issued) != 0 || !complete {
		t.Errorf("what was learned is published: %v, %v", issued, complete)
	}
	if all := a.All(now); len(all) != 0 {
		t.Errorf("what was learned counts as issued: %v", all)
	}
}

// TestLearnOwn wants an account to keep its name when the process that issued it has started again, and no other to get it.
func TestLearnOwn(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var before, after Accounts
	before.Publish()
	want := make(map[string]string)
	for i := range 5000 { // so many that some have not the second that their hash would give them
		account := fmt.Sprint("user", i)
		want[account] = before.Issue(fiveDays, account, now).Username
	}
	issued, _ := before.Issued()
	after.Learn(issued, true, now)
	for i := 4999; i >= 0; i-- {
		account := fmt.Sprint("user", i)
		if got := after.Issue(fiveDays, account, now).Username; got != want[account] {
			t.Fatalf("%s has %s after a restart, and had %s", account, got, want[account])
		}
	}
}

// TestIssuedIsBounded wants a process whose names nobody takes to forget them, and to say so.
func TestIssuedIsBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var a Accounts
	a.Publish()
	for i := range maxIssued + 2 {
		a.Issue(Issuer{accountsSecret, 366 * 24 * time.Hour}, fmt.Sprint("user", i), now)
	}
	if issued, complete := a.Issued(); complete || len(issued) > 0 {
		t.Errorf("%d names, %v", len(issued), complete)
	}
	if _, complete := a.Issued(); !complete {
		t.Error("incomplete again")
	}
}

func FuzzSerial(f *testing.F) {
	for _, username := range []string{"1758650868", "0001758650868", "0", "", "+5", "-5", "99999999999999", "1758650868:a"} {
		f.Add(username)
	}
	f.Fuzz(func(t *testing.T, username string) {
		if name, ok := parseSerial(username); ok && name.String() != username {
			t.Errorf("%q became %q", username, name)
		} else if expires, _, err := parseExpiry(username); ok && (err != nil || expires.Unix() != name.second()) {
			t.Errorf("%q expires at %v, %v", username, expires, err)
		}
	})
}
