package credential

import (
	"encoding/json"
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
