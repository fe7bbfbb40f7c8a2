package probe

import (
	"crypto/sha1"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/imapext/discovery"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// goodPassword contains all characters in which the two alphabets of base64 differ.
const goodPassword = "Rj+S5F6FIs7h1/GlhWICTVYYZiA="

// wrongForms has credentials as issued by mistake, with the expected message.
func wrongForms(now time.Time) map[string]struct{ username, password, text string } {
	expiry := now.Add(24 * time.Hour)
	seconds := strconv.FormatInt(expiry.Unix(), 10)
	sum := sha1.Sum(nil)
	return map[string]struct{ username, password, text string }{
		"milliseconds":         {strconv.FormatInt(expiry.UnixMilli(), 10), goodPassword, "the expiry is in milliseconds"},
		"microseconds":         {strconv.FormatInt(expiry.UnixMicro(), 10), goodPassword, "the expiry is in microseconds"},
		"nanoseconds":          {strconv.FormatInt(expiry.UnixNano(), 10), goodPassword, "the expiry is in nanoseconds"},
		"no padding":           {seconds, strings.TrimRight(goodPassword, "="), "the password has 27 characters"},
		"URL-safe":             {seconds, strings.NewReplacer("+", "-", "/", "_").Replace(goodPassword), "URL-safe alphabet"},
		"URL-safe, no padding": {seconds, strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(goodPassword), "URL-safe alphabet"},
		"hexadecimal":          {seconds, hex.EncodeToString(sum[:]), "40 hexadecimal digits"},
		"HMAC-SHA256":          {seconds, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "HMAC-SHA256"},
		"line break":           {seconds, goodPassword + "\n", "white space"},
	}
}

// refusal is an attempt whose credential the relay refuses.
func refusal() *attempt {
	return &attempt{addr: netip.MustParseAddrPort("203.0.113.7:3478"), Relay: Relay{Transport: UDP, Stage: stageAllocate, Code: 401},
		err: &turnclient.Error{Method: stun.MethodAllocate, Code: stun.CodeUnauthenticated}}
}

// TestFormBeforeSecret checks that the form of a refused credential is blamed, and not the secret.
func TestFormBeforeSecret(t *testing.T) {
	now := time.Now()
	for name, tt := range wrongForms(now) {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []Kind{IMAP, Line, TURN} {
				r := newRun(Options{Now: func() time.Time { return now }})
				r.Target.Kind, r.transports = kind, []Transport{UDP}
				expires, err := strconv.ParseInt(tt.username, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				r.value = discovery.Value{Username: tt.username, Password: tt.password, Expires: time.Unix(expires, 0)}
				r.judgeRelays([]*attempt{refusal()})
				r.judgeForm()
				v := r.report.judge()
				if v.Status != Failure || !strings.Contains(v.Text, tt.text) || strings.Contains(v.Text, "secret") || !strings.Contains(v.Action, "base64(HMAC-SHA1") {
					t.Errorf("kind %d: got %+v, want %q", kind, v, tt.text)
				}
				if len(r.report.Checks) != 1 || strings.Contains(r.report.Checks[0].Summary, tt.password) {
					t.Errorf("kind %d: got %+v", kind, r.report.Checks)
				}
			}
		})
	}
}

// TestFormUnasked checks for a warning if the relay does not answer, or accepts the credential anyway.
func TestFormUnasked(t *testing.T) {
	now := time.Now()
	for name, tt := range wrongForms(now) {
		for _, taken := range []bool{false, true} {
			r := newRun(Options{Now: func() time.Time { return now }})
			r.value = discovery.Value{Username: tt.username, Password: tt.password}
			if taken {
				r.report.Relays = []Relay{{RelayedAddr: "203.0.113.7:50000"}}
			}
			r.judgeForm()
			listed := taken && !strings.Contains(tt.text, "expiry") // a static user, whose password may have any form
			if v := r.report.judge(); listed != (v.Status == OK) || !listed && !strings.Contains(v.Text, tt.text) {
				t.Errorf("%s, taken %v: got %+v", name, taken, v)
			}
		}
	}
}

func TestGoodForms(t *testing.T) {
	now := time.Now()
	for _, tt := range [][2]string{
		{strconv.FormatInt(now.Add(time.Hour).Unix(), 10), goodPassword},
		{strconv.FormatInt(now.Add(-time.Hour).Unix(), 10) + ":alice", goodPassword},
		{strconv.FormatInt(now.Add(5*365*24*time.Hour).Unix(), 10), "a password of somebody's"},
		{"99999999999", "hunter2"},
		{"alice", strings.TrimRight(goodPassword, "=")},
	} {
		r := newRun(Options{Now: func() time.Time { return now }})
		r.value = discovery.Value{Username: tt[0], Password: tt[1]}
		if expiry, password := r.credentialForm(); expiry != "" || password != "" {
			t.Errorf("%q: got %q, %q", tt, expiry, password)
		}
	}
}

// TestDurationForExpiry checks a value whose third part is a duration.
func TestDurationForExpiry(t *testing.T) {
	r := newRun(Options{})
	r.value = discovery.Value{Hostname: "h", Port: 1, Username: "86400", Password: goodPassword, Expires: time.Unix(86400, 0)}
	r.checkValue()
	r.judgeForm()
	if v := r.report.judge(); v.Status != Failure || !strings.Contains(v.Text, "the expiry is a duration") {
		t.Errorf("got %+v", v)
	}
}
