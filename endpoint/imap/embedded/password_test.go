package embedded

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/argon2"
)

// argon2idOf returns a cheap argon2id hash of a password.
func argon2idOf(password string) string {
	salt := []byte("0123456789abcdef")
	return fmt.Sprintf("$argon2id$v=19$m=64,t=1,p=1$%s$%s", base64.RawStdEncoding.EncodeToString(salt),
		base64.RawStdEncoding.EncodeToString(argon2.IDKey([]byte(password), salt, 1, 64, 1, 32)))
}

func TestPassword(t *testing.T) {
	for _, tt := range []struct {
		name, text, password string
		hashed               bool
	}{
		{"plain text", "wonderland", "wonderland", false},
		{"plain text with a colon", "a:b", "a:b", false},
		{"bcrypt", string(bcryptOf(t, "wonderland")), "wonderland", true},
		{"bcrypt as htpasswd writes it", strings.Replace(string(bcryptOf(t, "wonderland")), "$2a$", "$2y$", 1), "wonderland", true},
		{"argon2id", argon2idOf("wonderland"), "wonderland", true},
		// The reference implementation's own test vector (phc-winner-argon2, src/test.c).
		{"argon2id of the reference implementation", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parsePassword(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if p.hashed != tt.hashed {
				t.Errorf("hashed is %v", p.hashed)
			}
			if !p.verify(tt.password) {
				t.Error("the password is refused")
			}
			for _, wrong := range []string{"", tt.password + "x", strings.ToUpper(tt.password), tt.text + "x", strings.Repeat("x", 4096)} {
				if p.verify(wrong) {
					t.Errorf("%.40q is accepted", wrong)
				}
			}
			if tt.hashed && p.verify(tt.text) {
				t.Error("the hash itself is accepted")
			}
		})
	}
}

func TestPasswordErrors(t *testing.T) {
	bcrypt := string(bcryptOf(t, "wonderland"))
	argon := argon2idOf("wonderland")
	for _, tt := range []struct{ text, want string }{
		{"", "empty"},
		{bcrypt[:50], "bcrypt hash"},
		{bcrypt + "x", "want 60"},
		{strings.Replace(bcrypt, "$04$", "$31$", 1), "cost 31"},
		{"$2a$xx$" + bcrypt[7:], "damaged"},
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
		_, err := parsePassword(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got error %v, want one with %q", tt.text, err, tt.want)
		} else if len(tt.text) > 20 && strings.Contains(err.Error(), tt.text[20:]) {
			t.Errorf("error %q shows the hash", err)
		}
	}
}

// TestVerifySlots checks that verifications wait if there is no slot, and are then deferred instead of refused.
func TestVerifySlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		running := 0
		c := newPasswordChecker(map[string]password{"alice": {hashed: true, verify: func(string) bool {
			running++
			<-release
			running--
			return true
		}}})
		c.slots = make(chan struct{}, 1)
		results := make(chan loginResult, 2)
		begin := time.Now()
		for range 2 {
			go func() { results <- c.check("alice", "x", nil) }()
		}
		synctest.Wait()
		if running != 1 {
			t.Errorf("%d verifications at once, want 1", running)
		}
		if got := <-results; got != loginBusy || time.Since(begin) != verifyWait {
			t.Errorf("got %v after %v, want busy after %v", got, time.Since(begin), verifyWait)
		}
		close(release)
		if got := <-results; got != loginOK {
			t.Errorf("got %v, want OK", got)
		}
	})
}

// TestUnknownUser checks that for an unknown name, some user's password is verified, always the same for one name.
func TestUnknownUser(t *testing.T) {
	asked := make(map[string]int)
	users := make(map[string]password)
	for _, name := range []string{"alice", "bob", "carol"} {
		users[name] = password{verify: func(string) bool { asked[name]++; return true }}
	}
	c := newPasswordChecker(users)
	for i := range 300 {
		if got := c.verify(fmt.Sprintf("nobody%d", i), "x", nil); got != loginRefused {
			t.Fatalf("an unknown user logged in: %v", got)
		}
	}
	for name := range users {
		if asked[name] < 30 {
			t.Errorf("the password of %s was verified for %d of 300 unknown users", name, asked[name])
		}
	}
	clear(asked)
	for range 10 {
		c.verify("nobody0", "x", nil)
	}
	if len(asked) != 1 {
		t.Errorf("one name was checked against several users: %v", asked)
	}
	if got := newPasswordChecker(nil).verify("nobody", "x", nil); got != loginRefused {
		t.Errorf("without users: %v", got)
	}
}
