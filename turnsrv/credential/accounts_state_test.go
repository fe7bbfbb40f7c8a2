package credential

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// TestAccountsState checks that another process knows the accounts of all user names, and issues the same ones.
func TestAccountsState(t *testing.T) {
	issuer := Issuer{Secret: NewSecret([]byte("a secret")), TTL: time.Hour}
	now := time.Unix(1_800_000_000, 0)
	var before, after Accounts
	usernames := make(map[string]string)
	for _, account := range []string{"alice@example.org", "bob@example.org", "", "alice@example.org"} {
		for range 3 {
			usernames[before.Issue(issuer, account, now).Username] = account
		}
		now = now.Add(20 * time.Minute)
	}
	state, err := json.Marshal(&before)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(state, &after); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&before, &after) {
		t.Errorf("got  %+v\nwant %+v", &after, &before)
	}
	for username := range usernames {
		was, _ := before.Account(username)
		if is, ok := after.Account(username); !ok || is != was {
			t.Errorf("%s belongs to %q, %v; want %q", username, is, ok, was)
		}
	}
	for _, damaged := range []string{"", "[]", `{"known":5}`, `{"known":[{"expiries":5}]}`} {
		if err := json.Unmarshal([]byte(damaged), new(Accounts)); err == nil {
			t.Errorf("%q is read", damaged)
		}
	}
}

// TestAccountsStateIsAdded wants a process to remember what it has issued before it gets the state of another one.
func TestAccountsStateIsAdded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	issuer := Issuer{Secret: NewSecret([]byte("a secret")), TTL: 24 * time.Hour}
	var before, after Accounts
	alice, bob := before.Issue(issuer, "alice@example.org", now), after.Issue(issuer, "bob@example.org", now)
	unknown := after.Issue(issuer, "", now)
	text, err := json.Marshal(&before)
	if err == nil {
		err = json.Unmarshal(text, &after)
	}
	if err != nil {
		t.Fatal(err)
	}
	for username, want := range map[string]string{alice.Username: "alice@example.org", bob.Username: "bob@example.org", unknown.Username: unknown.Username} {
		if account, ok := after.Account(username); !ok || account != want {
			t.Errorf("%s is of %q, %v, want %q", username, account, ok, want)
		}
	}
	if again := after.Issue(issuer, "bob@example.org", now); again.Username != bob.Username {
		t.Errorf("bob had %s, and now has %s", bob.Username, again.Username)
	}

	text = fmt.Appendf(nil, `{"known": [{"accounts": {"%s": "carol@example.org"}}, {}], "unknown": [{}, {}]}`, bob.Username)
	if err := json.Unmarshal(text, &after); err != nil {
		t.Fatal(err)
	}
	if account, ok := after.Account(bob.Username); ok {
		t.Errorf("a user name of two accounts is attributed to %s", account)
	}
}

// TestRecorded wants the process that takes over to know the user names that were issued after its predecessor took its state, and only
// those to be recorded.
func TestRecorded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	issuer := Issuer{Secret: NewSecret([]byte("a secret")), TTL: 24 * time.Hour}
	var before, after Accounts
	before.Issue(issuer, "early@example.org", now)
	before.Record()
	text, err := json.Marshal(&before)
	if err == nil {
		err = json.Unmarshal(text, &after)
	}
	if err != nil {
		t.Fatal(err)
	}
	alice, unknown := before.Issue(issuer, "alice@example.org", now), before.Issue(issuer, "", now)
	before.Issue(issuer, "early@example.org", now) // has its name already
	recorded := before.Recorded()
	want := []Issued{{alice.Username, "alice@example.org"}, {unknown.Username, unknown.Username}}
	if !reflect.DeepEqual(recorded, want) {
		t.Errorf("recorded %v, want %v", recorded, want)
	}
	after.Learn(recorded, true, now)
	for _, name := range want {
		if account, ok := after.Account(name.Username); !ok || account != name.Account {
			t.Errorf("%s belongs to %q, %v; want %q", name.Username, account, ok, name.Account)
		}
	}
	if again := after.Issue(issuer, "alice@example.org", now); again.Username != alice.Username {
		t.Errorf("the account gets %s, want %s", again.Username, alice.Username)
	}
	before.Issue(issuer, "late@example.org", now)
	if late := before.Recorded(); late != nil {
		t.Errorf("after the end of the record: %v", late)
	}
}
