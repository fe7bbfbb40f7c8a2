package page

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

const testPassword = "wonderland"

var testNow = time.Unix(1758650868, 0)

// testAccess returns an access with testPassword, under a hash of its own.
func testAccess(t testing.TB, turn issuer.Config) *Access {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(testPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAccess(credential.NewSecret(hash), turn)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLinks(t *testing.T) {
	a := testAccess(t, issuer.Config{})
	token, expires := a.newLink(testNow)
	if expires != testNow.Add(time.Hour) {
		t.Errorf("expires at %v, want an hour from %v", expires, testNow)
	}
	for _, tt := range []struct {
		name   string
		access *Access
		token  string
		at     time.Time
		want   bool
	}{
		{"at once", a, token, testNow, true},
		{"after 59 minutes", a, token, testNow.Add(59 * time.Minute), true},
		{"after an hour", a, token, testNow.Add(time.Hour), false},
		{"under another password", testAccess(t, issuer.Config{}), token, testNow, false},
		{"cut off", a, token[:len(token)-1], testNow, false},
		{"with something after it", a, token + "A", testNow, false},
		{"empty", a, "", testNow, false},
		{"zeros", a, strings.Repeat("A", len(token)), testNow, false},
	} {
		if got := tt.access.acceptLink(tt.token, tt.at); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// FuzzLinks changes a token in any way: no other one is accepted.
func FuzzLinks(f *testing.F) {
	a := testAccess(f, issuer.Config{})
	token, _ := a.newLink(testNow)
	real, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add(make([]byte, len(real)))
	f.Add(append(make([]byte, 7), 1))
	f.Fuzz(func(t *testing.T, change []byte) {
		changed := make([]byte, max(len(real), len(change)))
		copy(changed, real)
		for i, b := range change {
			changed[i] ^= b
		}
		want := bytes.Equal(changed, real)
		if got := a.acceptLink(base64.RawURLEncoding.EncodeToString(changed), testNow); got != want {
			t.Errorf("%x: got %v, want %v", changed, got, want)
		}
	})
}

func TestParseHash(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte(testPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := ParseHash(string(hash)); err != nil || !p.Verify(testPassword) || p.Verify("x") {
		t.Errorf("got error %v, or the wrong password is accepted", err)
	}
	for text, want := range map[string]string{
		testPassword:             "plain text",
		"":                       "empty",
		"admin:" + string(hash):  "user name before the hash",
		"{BLF-CRYPT}$2y$05$xxxx": "braces",
	} {
		if _, err := ParseHash(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q", text, err, want)
		}
	}
}
