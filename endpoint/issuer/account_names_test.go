package issuer

import (
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

func TestAccountNames(t *testing.T) {
	usual := AccountNames{Delimiter: "+", Domain: "Example.org"}
	for _, tt := range []struct {
		names      AccountNames
		name, want string
	}{
		{usual, "alice@example.org", "alice@example.org"},
		{usual, "Alice@Example.ORG", "alice@example.org"},
		{usual, "alice", "alice@example.org"},
		{usual, "alice@", "alice@example.org"},
		{usual, "alice+x@example.org", "alice@example.org"},
		{usual, "alice+x+y", "alice@example.org"},
		{usual, "alice@example.org ", "alice@example.org"},
		{usual, " alice @ example.org\t", "alice@example.org"},
		{usual, "alice@example.net", "alice@example.net"},
		{usual, "alice@exam+ple.org", "alice@exam+ple.org"},
		{usual, "+x@example.org", "+x@example.org"},
		{usual, "alice +x@example.org", "alice@example.org"},
		{usual, "@", "@"},
		{usual, "", ""},
		{usual, " ", " "},
		{AccountNames{}, "Alice+x@example.org", "alice+x@example.org"},
		{AccountNames{}, "alice", "alice"},
		{AccountNames{Delimiter: "--"}, "alice-b--x@example.org", "alice-b@example.org"},
	} {
		if got := tt.names.Account(tt.name); got != tt.want {
			t.Errorf("%+v: %q is %q, want %q", tt.names, tt.name, got, tt.want)
		} else if again := tt.names.Account(got); again != got {
			t.Errorf("%+v: %q is %q, whose account is %q", tt.names, tt.name, got, again)
		}
	}
}

// TestOneAccountWhateverTheName checks that all names of an account get the user name that the relay knows for that account, and
// the same one of several relays.
func TestOneAccountWhateverTheName(t *testing.T) {
	c := Config{
		Secrets:  config.Value[[]credential.Secret]{V: []credential.Secret{credential.NewSecret([]byte("test-secret"))}},
		TTL:      config.Value[time.Duration]{V: time.Hour},
		Accounts: new(credential.Accounts),
		Names:    AccountNames{Delimiter: "+", Domain: "example.org"},
	}
	now := time.Unix(1_800_000_000, 0)
	for _, name := range []string{"alice@example.org", "ALICE", "alice+x@example.org", "alice@example.org  "} {
		issued := c.IssueTo(name, now)
		if account, ok := c.Accounts.Account(issued.Username); !ok || account != "alice@example.org" {
			t.Errorf("%q: the relay knows %q, %v", name, account, ok)
		}
		if got, want := c.IssueFor(name, now).Username, c.IssueFor("alice@example.org", now).Username; got != want {
			t.Errorf("%q: the user name is %q, want %q", name, got, want)
		}
		several := c
		for _, server := range []string{"a", "b", "c", "d"} {
			several.Relays = append(several.Relays, WeightedRelay{Config: Config{Server: config.Value[string]{V: server}}, Weight: 1})
		}
		if got, want := several.For(name).Server.V, several.For("alice@example.org").Server.V; got != want {
			t.Errorf("%q has the relay %s, want %s", name, got, want)
		}
		if several.For(name).Names != c.Names {
			t.Error("one of several relays does not know which names are one account")
		}
	}
}
