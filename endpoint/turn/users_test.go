package turn

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/module/moduletest"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// TestUsersAreReloaded checks that users of the block and of the file are accepted, and that a reload reads the file again.
func TestUsersAreReloaded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	decode := func() Config {
		t.Helper()
		c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
		users, diags := decodeUsers(c.Realm,
			config.Value[map[string]string]{V: map[string]string{"alice": "alice's password"}, Set: true},
			config.Value[string]{V: path, Set: true})
		if len(diags) > 0 {
			t.Fatal(diags)
		}
		c.Users = users
		return c
	}
	key := func(name, password string) string {
		return string(credential.LongTermKey(name, "example.org", password))
	}
	write("bob:bob's password\ncarol:ha1:00112233445566778899AABBCCDDEEFF\n")
	e := moduletest.Start(t, New, decode())
	check := func(want map[string]string) {
		t.Helper()
		for name, key := range want {
			grant, ok := e.secrets.Lookup(name, "example.org")
			switch {
			case key == "" && ok:
				t.Errorf("%s is still known", name)
			case key == "":
			case !ok || len(grant.Keys) != 1 || string(grant.Keys[0].Value) != key || !grant.Expires.IsZero() || grant.Keys[0].Subject.Name != name:
				t.Errorf("%s: %v, %v", name, grant, ok)
			}
		}
	}
	check(map[string]string{
		"alice": key("alice", "alice's password"), "bob": key("bob", "bob's password"),
		"carol": "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xAA\xBB\xCC\xDD\xEE\xFF", "dave": "",
	})
	write("dave:dave's password\n")
	moduletest.Reload(t, e, decode())
	check(map[string]string{
		"alice": key("alice", "alice's password"), "bob": "", "carol": "", "dave": key("dave", "dave's password"),
	})
}

func TestUserInBothPlaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte("alice:another password\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := Config{Realm: "example.org"}
	_, diags := decodeUsers(c.Realm,
		config.Value[map[string]string]{V: map[string]string{"alice": "alice's password"}, Set: true},
		config.Value[string]{V: path, Set: true})
	var got []string
	for _, diag := range diags {
		got = append(got, diag.Summary)
	}
	if diff := cmp.Diff([]string{"Users file is readable by everybody", "Invalid user"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestNewRefusesUsers(t *testing.T) {
	c := loopback()
	c.Users = map[string]credential.Secret{"1758650868": credential.NewSecret([]byte("correct horse battery"))}
	if _, err := New(c, slog.New(slog.DiscardHandler)); err == nil || strings.Contains(err.Error(), "horse") {
		t.Errorf("error %v, want one without the password", err)
	}
}
