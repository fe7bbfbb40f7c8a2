package credential

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestUsers(t *testing.T) {
	key := LongTermKey("alice", "example.org", "secret of alice")
	var users Users
	for name, password := range map[string]string{"alice": "secret of alice", "bob": "ha1:00112233445566778899aabbccddeeff"} {
		if err := users.Add(name, "example.org", password); err != nil {
			t.Fatal(err)
		}
	}
	v := Verifier{Secrets: []Secret{NewSecret([]byte("shared"))}, Users: users}
	for name, want := range map[string][]byte{
		"alice": key,
		"bob":   {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF},
	} {
		grant, ok := v.Lookup(name, "example.org")
		if !ok || len(grant.Keys) != 1 || !bytes.Equal(grant.Keys[0].Value, want) || !grant.Expires.IsZero() ||
			grant.Keys[0].Subject != (Subject{Name: name, Realm: "example.org"}) {
			t.Errorf("%s: %v, %v", name, grant, ok)
		}
	}
	if _, ok := v.Lookup("carol", "example.org"); ok {
		t.Error("a user who is not there is known")
	}
	if grant, ok := v.Lookup("1758650868:alice", "example.org"); !ok || grant.Expires.IsZero() ||
		bytes.Equal(grant.Keys[0].Value, key) {
		t.Error("an issued name is taken for the static user in it")
	}
}

func TestUsersRefuse(t *testing.T) {
	for _, tt := range []struct {
		name, password string
		want           error
	}{
		{"", "secret", errUsername},
		{"a\x00b", "secret", errUsername},
		{strings.Repeat("a", 509), "secret", errUsername},
		{"alice", "", errPassword},
		{"1758650868", "secret", errExpiringName},
		{"1758650868:alice", "secret", errExpiringName},
		{"alice:1758650868", "secret", errExpiringName},
		{"0001758650868", "secret", errExpiringName},
		{"bob", "secret", ErrDuplicate},
		{"alice", "ha1:", errKey},
		{"alice", "ha1:00112233445566778899aabbccddeef", errKey},
		{"alice", "ha1:00112233445566778899aabbccddeeff00", errKey},
		{"alice", "ha1:secret secret secret secret secret", errKey},
		{"alice", "0x00112233445566778899aabbccddeeff", errCoturnKey},
	} {
		var users Users
		if err := users.Add("bob", "example.org", "secret"); err != nil {
			t.Fatal(err)
		}
		if err := users.Add(tt.name, "example.org", tt.password); !errors.Is(err, tt.want) || len(users.byName) != 1 {
			t.Errorf("%q with %q: %v and %d users, want %v", tt.name, tt.password, err, len(users.byName), tt.want)
		}
	}
}

// TestUsersWithNumbers accepts names that are numbers, which are common in telephony and which no issuer uses.
func TestUsersWithNumbers(t *testing.T) {
	for _, name := range []string{"1001", "0", "999999999", "12345678901", "1001:alice", "alice:1001", "alice-1758650868",
		"+1758650868"} {
		var users Users
		if err := users.Add(name, "example.org", "secret"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		v := Verifier{Users: users, Secrets: []Secret{NewSecret([]byte("shared"))}}
		want := LongTermKey(name, "example.org", "secret")
		if grant, ok := v.Lookup(name, "example.org"); !ok || !grant.Expires.IsZero() || len(grant.Keys) != 1 ||
			!bytes.Equal(grant.Keys[0].Value, want) {
			t.Errorf("%s is granted %v, %v, want the static user", name, grant, ok)
		}
	}
}

// TestUsersOfSeveralRealms checks that users with a password are known in each realm, and users with a key only in their own.
func TestUsersOfSeveralRealms(t *testing.T) {
	var users Users
	const key = "00112233445566778899aabbccddeeff"
	for _, user := range [][3]string{
		{"alice", "example.org", "secret of alice"},
		{"bob", "example.net", "secret of bob"},
		{"carol", "example.net", "ha1:" + key},
		{"dave", "example.org", "secret of the one"},
		{"dave", "example.net", "secret of the other"},
		{"erin", "example.org", "secret of erin"},
		{"erin", "example.net", "ha1:" + key},
	} {
		if err := users.Add(user[0], user[1], user[2]); err != nil {
			t.Fatal(err)
		}
	}
	v := Verifier{Users: users, Secrets: []Secret{NewSecret([]byte("shared"))}}
	given, _ := hex.DecodeString(key)
	of := func(name, realm string, key []byte) Key { return Key{key, Subject{Name: name, Realm: realm}} }
	for _, tt := range []struct {
		name, realm string
		want        []Key
	}{
		{"alice", "example.org", []Key{of("alice", "example.org", LongTermKey("alice", "example.org", "secret of alice"))}},
		{"alice", "example.net", []Key{of("alice", "example.org", LongTermKey("alice", "example.net", "secret of alice"))}},
		{"bob", "example.org", []Key{of("bob", "example.net", LongTermKey("bob", "example.org", "secret of bob"))}},
		{"carol", "example.net", []Key{of("carol", "example.net", given)}},
		{"carol", "example.org", nil},
		{"dave", "example.org", []Key{
			of("dave", "example.org", LongTermKey("dave", "example.org", "secret of the one")),
			of("dave", "example.net", LongTermKey("dave", "example.org", "secret of the other")),
		}},
		{"dave", "example.net", []Key{
			of("dave", "example.net", LongTermKey("dave", "example.net", "secret of the other")),
			of("dave", "example.org", LongTermKey("dave", "example.net", "secret of the one")),
		}},
		{"erin", "example.net", []Key{
			of("erin", "example.net", given), of("erin", "example.org", LongTermKey("erin", "example.net", "secret of erin")),
		}},
	} {
		grant, ok := v.Lookup(tt.name, tt.realm)
		if !reflect.DeepEqual(grant.Keys, tt.want) || ok != (tt.want != nil) {
			t.Errorf("%s in %s: %v, %v, want %v", tt.name, tt.realm, grant.Keys, ok, tt.want)
		}
	}
}
