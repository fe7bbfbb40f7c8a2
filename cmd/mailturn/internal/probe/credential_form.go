package probe

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// farExpiry is how long a credential may be good before that is taken for a mistake.
const farExpiry = 10 * 365 * 24 * time.Hour

// passwordForm says what is wrong with the form of a password that looks like an HMAC and is not the one that relays
// compute: base64 of 20 bytes of HMAC-SHA1, in the standard alphabet, with padding. It returns "" for all others, which
// may be those of users in a relay's list.
func passwordForm(password string) (problem string) {
	trimmed := strings.TrimSpace(password)
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(trimmed, "="))
	sum, err := base64.RawStdEncoding.DecodeString(standard)
	_, notHex := hex.DecodeString(trimmed)
	switch {
	case notHex == nil && (len(trimmed) == 40 || len(trimmed) == 64):
		return fmt.Sprintf("the password is %d hexadecimal digits, but relays expect base64", len(trimmed))
	case err != nil || len(sum) != 20 && len(sum) != 32:
		return ""
	case trimmed != password:
		return "the password begins or ends with white space"
	case strings.ContainsAny(password, "-_"):
		return "the password uses the URL-safe alphabet of base64, with - and _ instead of + and /"
	case len(sum) == 32:
		return "the password has the length of HMAC-SHA256, but relays compute HMAC-SHA1"
	case len(password) != 28:
		return fmt.Sprintf("the password has %d characters, but base64 of HMAC-SHA1 has 28, the last of which is the padding =", len(password))
	}
	return ""
}

// expiryForm says in which unit an expiry is written that is not in seconds since 1970, if it is in one of them.
func expiryForm(expires int64, now time.Time) (problem string) {
	for _, unit := range []struct {
		name    string
		perUnit int64
	}{{"milliseconds", 1e3}, {"microseconds", 1e6}, {"nanoseconds", 1e9}} {
		if t := time.Unix(expires/unit.perUnit, 0); t.After(now.Add(-farExpiry)) && t.Before(now.Add(farExpiry)) {
			return "the expiry is in " + unit.name + ", but clients and relays read seconds"
		}
	}
	if expires >= 0 && expires < int64(farExpiry/time.Second) {
		return "the expiry is a duration, but clients and relays read seconds since 1970"
	}
	return ""
}

// formID is the check of a credential's form.
const formID = "value.form"

// formAction is what to do about a problem with the form of a value.
const formAction = "Issue EXPIRY as the seconds since 1970 and PASSWORD as base64(HMAC-SHA1(secret, EXPIRY)), in the standard alphabet with padding (RFC 4648 section 4)."

// credentialForm says what is wrong with the form of the credential that is tried: of its expiry, which no relay can mean,
// or of its password, which may be in a relay's list of users after all. Both are "" for a user name without an expiry.
func (r *run) credentialForm() (expiry, password string) {
	stamp, _, _ := strings.Cut(r.value.Username, ":")
	expires, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return "", ""
	}
	return expiryForm(expires, r.Now()), passwordForm(r.value.Password)
}

// judgeForm warns of the form of a credential that no relay has refused, which would have been said with the refusal.
func (r *run) judgeForm() {
	expiry, password := r.credentialForm()
	taken := slices.ContainsFunc(r.report.Relays, func(a Relay) bool { return a.RelayedAddr != "" })
	switch {
	case slices.ContainsFunc(r.report.Checks, func(c Check) bool { return c.ID == formID }):
	case expiry != "" && taken:
		r.report.add(formID, r.value.Username, Warning, expiry+", so the credential is valid forever; the relay accepts it.", formAction)
	case expiry != "":
		r.report.add(formID, r.value.Username, Warning, expiry+".", formAction)
	case password != "" && !taken:
		r.report.add(formID, r.value.Username, Warning, password+".", formAction)
	}
}
