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

// farExpiry is the validity above which an expiry is considered a mistake.
const farExpiry = 10 * 365 * 24 * time.Hour

// passwordForm says what is wrong with a password that looks like an HMAC but not like those that relays compute: 20 bytes of
// HMAC-SHA1 in base64, in the standard alphabet, with padding. It returns "" for all others, which may be those of static users.
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

// expiryForm returns the unit of an expiry that is in a known unit other than seconds since 1970, or "".
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

// formID identifies the check of a credential's form.
const formID = "value.form"

// formAction is what to do about a malformed value.
const formAction = "Issue EXPIRY as the seconds since 1970 and PASSWORD as base64(HMAC-SHA1(secret, EXPIRY)), in the standard alphabet with padding (RFC 4648 section 4)."

// credentialForm says what is wrong with the form of the tried credential: with its expiry, which is a mistake for any relay, or
// with its password, which may still be that of a static user. Both are "" for a user name without an expiry.
func (r *run) credentialForm() (expiry, password string) {
	stamp, _, _ := strings.Cut(r.value.Username, ":")
	expires, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return "", ""
	}
	return expiryForm(expires, r.Now()), passwordForm(r.value.Password)
}

// judgeForm warns about the form of a credential that no relay has refused. A refusal already mentions it.
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
