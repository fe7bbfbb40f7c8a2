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

func TestReadUsers(t *testing.T) {
	long := strings.Repeat("x", maxUserLineLen)
	for _, tt := range []struct {
		name, text string
		want       map[string]string
		err        string
	}{
		{"empty", "", map[string]string{}, ""},
		{"comments and empty lines", "# comment\n\n \nalice:secret\r\n", map[string]string{"alice": "secret"}, ""},
		{"colons in the password", "alice:a:b:c\nbob:ha1:0123\n", map[string]string{"alice": "a:b:c", "bob": "ha1:0123"}, ""},
		{"no line end", "alice:secret", map[string]string{"alice": "secret"}, ""},
		{"no colon", "alice:secret\nsecret-alone", nil, "line 2 has no colon"},
		{"twice", "alice:one-secret\nalice:secret", nil, "line 2: duplicate user"},
		{"long line", "alice:" + long, nil, "longer than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readUsers(strings.NewReader(tt.text))
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error %q holds a password", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestUsersAreReloaded wants users of the block and of the file to be served, and a reload to take the file as it is then.
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
