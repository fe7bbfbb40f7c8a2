package credential

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestPasswordVector(t *testing.T) {
	// The vector was checked against Delta Chat core and coturn.
	got := Password(NewSecret([]byte("test-secret")), "1758650868")
	if want := "nkfvRIGUcx0N/jq/StNLPajpLZE="; got != want {
		t.Errorf("Password = %q, want %q", got, want)
	}
}

func TestLongTermKeyVector(t *testing.T) {
	// RFC 8489 section 9.2.2 gives this example.
	got := hex.EncodeToString(LongTermKey("user", "realm", "pass"))
	if want := "8493fbc53ba582fb4c044c456bdc40eb"; got != want {
		t.Errorf("LongTermKey = %s, want %s", got, want)
	}
}

func TestIssue(t *testing.T) {
	issuer := Issuer{Secret: NewSecret([]byte("test-secret")), TTL: 24 * time.Hour}
	got := issuer.Issue(time.Unix(1758650868-86400, 999_999_999))
	if got.Username != "1758650868" || got.Password != "nkfvRIGUcx0N/jq/StNLPajpLZE=" || got.Expires.Unix() != 1758650868 {
		t.Errorf("Issue = %q %q %v", got.Username, got.Password, got.Expires)
	}
	for _, printed := range []string{fmt.Sprint(got), fmt.Sprintf("%+v %#v", got, got)} {
		if strings.Contains(printed, got.Password) {
			t.Errorf("formatting a credential printed its password: %s", printed)
		}
	}
}

func TestParseExpiry(t *testing.T) {
	tests := []struct {
		username string
		unix     int64
		user     string
		wantErr  bool
	}{
		{username: "1758650868", unix: 1758650868},
		{username: "0001758650868", unix: 1758650868},
		{username: "0", unix: 0},
		{username: "1758650868:alice", unix: 1758650868, user: "alice"},
		{username: "alice:1758650868", unix: 1758650868, user: "alice"},
		{username: "1758650868:@alice:example.org", unix: 1758650868, user: "@alice:example.org"},
		{username: "@alice:example.org:1758650868", unix: 1758650868, user: "@alice:example.org"},
		{username: "1758650868:42", unix: 1758650868, user: "42"},
		{username: "1758650868:", unix: 1758650868},
		{username: ":1758650868", unix: 1758650868},
		{username: "253402300799", unix: 253402300799},
		{username: "253402300800", wantErr: true},
		{username: "9223372036854775808", wantErr: true},
		{username: "99999999999999999999999999", wantErr: true},
		// As coturn's atol reads them.
		{username: "+1758650868", unix: 1758650868},
		{username: "1758650868.42", unix: 1758650868},
		{username: "1758650868.-1", unix: 1758650868, user: "-1"},
		{username: "1758650868.", unix: 1758650868},
		{username: "1758650868.42-john", unix: 1758650868, user: "john"},
		{username: "1758650868-john", unix: 1758650868, user: "john"},
		{username: "1758650868.john", unix: 1758650868, user: "john"},
		{username: "1758650868john", unix: 1758650868, user: "john"},
		{username: "1758650868\xff", unix: 1758650868},
		{username: "1758650868\x00", wantErr: true},
		{username: "1758650868-a\nb", wantErr: true},
		{username: "alice:1758650868\x00", wantErr: true},
		{username: " 1758650868", wantErr: true},
		{username: "alice:1758650868.42", unix: 1758650868, user: "alice"},
		{username: "alice:+1758650868", unix: 1758650868, user: "alice"},
		// A user whose name is a number cannot choose the expiry.
		{username: "9999999999x:1758650868", unix: 1758650868, user: "9999999999x"},
		{username: "a:9999999999x:1758650868.42", unix: 1758650868, user: "a:9999999999x"},
		{username: "1758650868.42:john", wantErr: true}, // coturn reads john
		{username: "+1758650868:john", wantErr: true},
		{username: "99999999999999999999999999.5", wantErr: true},
		{username: "-1", wantErr: true},
		{username: "++1", wantErr: true},
		{username: "+-1", wantErr: true},
		{username: "+", wantErr: true},
		{username: "+ 1", wantErr: true},
		{username: "0x10", unix: 0, user: "x10"},
		{username: "alice", wantErr: true},
		{username: "alice:bob", wantErr: true},
		{username: ":", wantErr: true},
		{username: "", wantErr: true},
	}
	for _, test := range tests {
		expires, user, err := parseExpiry(test.username)
		if test.wantErr {
			if !errors.Is(err, errNoExpiry) {
				t.Errorf("parseExpiry(%q) = %v, %q, %v, want errNoExpiry", test.username, expires, user, err)
			}
			continue
		}
		if err != nil || expires.Unix() != test.unix || user != test.user {
			t.Errorf("parseExpiry(%q) = %d, %q, %v, want %d, %q", test.username, expires.Unix(), user, err, test.unix, test.user)
		}
	}
}

func TestVerifierAcceptsEverySecret(t *testing.T) {
	verifier := Verifier{Secrets: []Secret{NewSecret([]byte("new")), {}, NewSecret([]byte("old"))}}
	grant, ok := verifier.Lookup("alice:1758650868", "example.org")
	if !ok || len(grant.Keys) != 2 || grant.Keys[0].Subject != (Subject{Name: "alice"}) || grant.Expires.Unix() != 1758650868 {
		t.Fatalf("Lookup = %d keys, subject %v, expires %v, %v", len(grant.Keys), grant.Keys[0].Subject, grant.Expires, ok)
	}
	for i, secret := range []string{"new", "old"} {
		want := LongTermKey("alice:1758650868", "example.org", Password(NewSecret([]byte(secret)), "alice:1758650868"))
		if !bytes.Equal(grant.Keys[i].Value, want) {
			t.Errorf("key %d is not the one of secret %q", i, secret)
		}
	}
	if grant, ok := verifier.Lookup("1758650868", "example.org"); !ok ||
		grant.Keys[0].Subject != (Subject{Name: "1758650868", Anonymous: true}) {
		t.Errorf("a bare time stamp has subject %v, %v", grant.Keys[0].Subject, ok)
	}
	if _, ok := verifier.Lookup("alice", "example.org"); ok {
		t.Error("a name without time stamp has a grant")
	}
	if _, ok := (Verifier{Secrets: []Secret{{}}}).Lookup("1758650868", "example.org"); ok {
		t.Error("an empty secret gives a grant")
	}
}

// TestVerifierBoundsLifetimes checks that the grant says when an expiry comes within the limit.
func TestVerifierBoundsLifetimes(t *testing.T) {
	for bound, want := range map[time.Duration]time.Time{0: {}, time.Hour: time.Unix(1758650868-3600, 0).UTC()} {
		grant, ok := Verifier{Secrets: []Secret{NewSecret([]byte("shared"))}, MaxLifetime: bound}.Lookup("1758650868", "example.org")
		if !ok || !grant.NotBefore.Equal(want) {
			t.Errorf("with a bound of %v: not before %v, %v, want %v", bound, grant.NotBefore, ok, want)
		}
	}
}

func TestSecretNeverPrints(t *testing.T) {
	secret := NewSecret([]byte("hunter2"))
	holder := struct {
		S Secret
		P *Secret
		s Secret
	}{secret, &secret, secret}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", secret, "holder", holder)
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	printed := fmt.Sprintf("%v %+v %#v %s %q %x %X %d %v %+v %#v", secret, secret, secret, secret, secret, secret, secret, secret,
		holder, holder, holder) + log.String() + string(encoded)
	for _, leak := range []string{"hunter2", "68756e74", "68756E74", "104 117"} {
		if strings.Contains(printed, leak) {
			t.Errorf("printed %q in %s", leak, printed)
		}
	}
}

func TestSecretUnmarshalText(t *testing.T) {
	var secret Secret
	text := []byte("abc")
	if err := secret.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	text[0] = 'x'
	if string(secret.Bytes()) != "abc" {
		t.Error("the secret aliases its caller's bytes")
	}
}

func TestAssess(t *testing.T) {
	tests := []struct {
		secret    string
		fatal     bool
		weakness  int
		firstWord string
	}{
		{secret: "", fatal: true, weakness: 1, firstWord: "empty"},
		{secret: "north", fatal: true, weakness: 1, firstWord: "public"},
		{secret: "shared secret", weakness: 2, firstWord: "sample"},
		{secret: "<Your_Secret-Key Here>", weakness: 1, firstWord: "sample"},
		{secret: "x8Fq2", weakness: 1, firstWord: "shorter"},
		{secret: "Fh7qkP2mZ0yT9rLs"},
	}
	for _, test := range tests {
		got := Assess(NewSecret([]byte(test.secret)))
		if len(got) != test.weakness {
			t.Errorf("Assess(%q) = %v, want %d weaknesses", test.secret, got, test.weakness)
			continue
		}
		if len(got) > 0 && (got[0].Fatal != test.fatal || !strings.Contains(got[0].Reason, test.firstWord)) {
			t.Errorf("Assess(%q) = %v, want fatal %v because of %q", test.secret, got, test.fatal, test.firstWord)
		}
	}
}

func FuzzParseExpiry(f *testing.F) {
	for _, seed := range []string{"1758650868", "1758650868:a:b", "a:b:1758650868", ":", "9223372036854775808", "1758650868.42",
		"+1758650868", "1758650868-john", "a:1758650868.42", " 1-:2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, username string) {
		expires, user, err := parseExpiry(username)
		if err != nil {
			return
		}
		// Formatting the parsed name in its unambiguous form and parsing it again must give the same result.
		again, sameUser, err := parseExpiry(fmt.Sprintf("%d:%s", expires.Unix(), user))
		if err != nil || !again.Equal(expires) || sameUser != user {
			t.Errorf("%q gave %v, %q; written again it gave %v, %q, %v", username, expires, user, again, sameUser, err)
		}
	})
}

func BenchmarkIssue(b *testing.B) {
	issuer := Issuer{Secret: NewSecret([]byte("0123456789abcdef0123456789abcdef")), TTL: 120 * time.Hour}
	now := time.Unix(1758650868, 0)
	b.ReportAllocs()
	for b.Loop() {
		issuer.Issue(now)
	}
}

func BenchmarkLookup(b *testing.B) {
	verifier := Verifier{Secrets: []Secret{NewSecret([]byte("0123456789abcdef0123456789abcdef"))}}
	b.ReportAllocs()
	for b.Loop() {
		verifier.Lookup("1758650868", "example.org")
	}
}

func TestIssueForNamesTheUser(t *testing.T) {
	issuer := Issuer{Secret: NewSecret([]byte("test-secret")), TTL: time.Hour}
	now := time.Unix(1758647268, 0)
	got := issuer.IssueFor("@alice:example.org", now)
	if want := "1758650868:@alice:example.org"; got.Username != want {
		t.Errorf("got user name %q, want %q", got.Username, want)
	}
	if want := Password(issuer.Secret, got.Username); got.Password != want {
		t.Errorf("got password %q, want that of the whole user name, %q", got.Password, want)
	}
	if issuer.IssueFor("", now) != issuer.Issue(now) {
		t.Error("an empty user differs from none")
	}
}
