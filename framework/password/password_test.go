package password

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// argon2idOf returns a cheap argon2id hash of a password.
func argon2idOf(password string) string {
	salt := []byte("0123456789abcdef")
	return fmt.Sprintf("$argon2id$v=19$m=64,t=1,p=1$%s$%s", base64.RawStdEncoding.EncodeToString(salt),
		base64.RawStdEncoding.EncodeToString(argon2.IDKey([]byte(password), salt, 1, 64, 1, 32)))
}

// bcryptOf returns the cheapest bcrypt hash of a password.
func bcryptOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func TestPassword(t *testing.T) {
	for _, tt := range []struct {
		name, text, password string
		hashed               bool
	}{
		{"plain text", "wonderland", "wonderland", false},
		{"plain text with a colon", "a:b", "a:b", false},
		{"bcrypt", bcryptOf(t, "wonderland"), "wonderland", true},
		{"bcrypt as htpasswd writes it", strings.Replace(bcryptOf(t, "wonderland"), "$2a$", "$2y$", 1), "wonderland", true},
		{"argon2id", argon2idOf("wonderland"), "wonderland", true},
		// The reference implementation's own test vector (phc-winner-argon2, src/test.c).
		{"argon2id of the reference implementation", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if p.Hashed != tt.hashed {
				t.Errorf("hashed is %v", p.Hashed)
			}
			if !p.Verify(tt.password) {
				t.Error("the password is refused")
			}
			for _, wrong := range []string{"", tt.password + "x", strings.ToUpper(tt.password), tt.text + "x", strings.Repeat("x", 4096)} {
				if p.Verify(wrong) {
					t.Errorf("%.40q is accepted", wrong)
				}
			}
			if tt.hashed && p.Verify(tt.text) {
				t.Error("the hash itself is accepted")
			}
		})
	}
}

func TestPasswordErrors(t *testing.T) {
	hash := bcryptOf(t, "wonderland")
	argon := argon2idOf("wonderland")
	for _, tt := range []struct{ text, want string }{
		{"", "empty"},
		{hash[:50], "bcrypt hash"},
		{hash + "x", "want 60"},
		{strings.Replace(hash, "$04$", "$31$", 1), "cost 31"},
		{"$2a$xx$" + hash[7:], "damaged"},
		{strings.Replace(argon, "m=64", "m=4194304", 1), "m=4194304"},
		{strings.Replace(argon, "t=1", "t=0", 1), "t=0"},
		{strings.Replace(argon, "t=1", "t=1000", 1), "t=1000"},
		{strings.Replace(argon, "p=1", "p=0", 1), "p=0"},
		{strings.Replace(argon, "p=1", "p=1x", 1), "damaged"},
		{strings.Replace(argon, "p=1", "p=256", 1), "damaged"},
		{strings.Replace(argon, "v=19", "v=16", 1), "version"},
		{argon[:len(argon)-40], "bytes: want 16 to 64"},
		{"$argon2id$", "damaged"},
		{"$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAA", "not a known hash"},
		{"$6$salt$hash", "not a known hash"},
		{"{SHA512-CRYPT}$6$salt$hash", "braces"},
	} {
		_, err := Parse(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got error %v, want one with %q", tt.text, err, tt.want)
		} else if len(tt.text) > 20 && strings.Contains(err.Error(), tt.text[20:]) {
			t.Errorf("error %q shows the hash", err)
		}
	}
}

func TestHash(t *testing.T) {
	const secret = "correct horse battery stäple"
	hash, err := Hash(secret)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(hash)
	if err != nil || !p.Hashed || !p.Verify(secret) || p.Verify(secret+"r") {
		t.Errorf("%s: %+v, %v", hash, p, err)
	}
	if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost < 12 || cost > maxBcryptCost {
		t.Errorf("the cost is %d, %v", cost, err)
	}
	for bad, want := range map[string]string{"": "the password is empty", strings.Repeat("a", 73): "more than 72 bytes"} {
		if hash, err := Hash(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %q, %v", bad, hash, err)
		}
	}
}
