package credential

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Credential is one user name with its password. Its password stays out of formats and log lines.
type Credential struct {
	Username string
	Password string
	Expires  time.Time
}

// String returns the user name and the expiry.
func (c Credential) String() string {
	return fmt.Sprintf("%s (until %s)", c.Username, c.Expires.UTC().Format(time.RFC3339))
}

// GoString returns what String does, so that %#v does not print the password.
func (c Credential) GoString() string { return c.String() }

// LogValue leaves the password out.
func (c Credential) LogValue() slog.Value {
	return slog.GroupValue(slog.String("username", c.Username), slog.Time("expires", c.Expires))
}

// Issuer issues credentials under one secret. It is a value without state and safe for concurrent use.
type Issuer struct {
	Secret Secret
	TTL    time.Duration // from the moment of issue to expiry
}

// Issue returns a credential that expires TTL after now, rounded down to the second. The user name is the expiry in
// seconds since the Unix epoch and nothing else, because Delta Chat parses it as an integer.
func (i Issuer) Issue(now time.Time) Credential { return i.IssueFor("", now) }

// IssueFor returns a credential as Issue does, with ":" and user behind the expiry in its user name, unless user is empty.
// That is the form of the TURN REST API (draft-uberti-behave-turn-rest-00 section 2.2); Delta Chat cannot parse it.
func (i Issuer) IssueFor(user string, now time.Time) Credential {
	second := now.Add(i.TTL).Unix()
	if user == "" {
		return i.at(second)
	}
	return i.named(strconv.FormatInt(second, 10)+":"+user, second)
}

// at returns the credential that expires at a second since the Unix epoch and has that for its user name.
func (i Issuer) at(second int64) Credential { return i.named(strconv.FormatInt(second, 10), second) }

func (i Issuer) named(username string, expires int64) Credential {
	return Credential{Username: username, Password: Password(i.Secret, username), Expires: time.Unix(expires, 0).UTC()}
}

// Password returns the password that belongs to username: base64(HMAC-SHA1(secret, username)) with padding.
func Password(secret Secret, username string) string {
	mac := hmac.New(sha1.New, secret.Bytes())
	mac.Write([]byte(username))
	var sum [sha1.Size]byte
	return base64.StdEncoding.EncodeToString(mac.Sum(sum[:0]))
}

// LongTermKey returns the key under which a request with long-term credentials is signed:
// MD5(username ":" realm ":" password), RFC 8489 section 9.2.2. The strings are used as they came in: every client of
// ours sends ASCII, which OpaqueString (RFC 8265) leaves alone.
func LongTermKey(username, realm, password string) []byte {
	h := md5.New()
	for i, s := range [...]string{username, realm, password} {
		if i > 0 {
			h.Write([]byte{':'})
		}
		h.Write([]byte(s))
	}
	return h.Sum(nil)
}

// ErrNoExpiry is returned for a user name without a usable time stamp.
var ErrNoExpiry = errors.New("user name carries no expiry time")

// lastSecond is the end of the year 9999. Later time stamps are refused before arithmetic on them can overflow.
const lastSecond = 253402300799

// ParseExpiry splits a time-limited user name into its expiry and the user that it names.
//
// Three forms are in use: "expiry", "expiry:user" and "user:expiry", where expiry is a decimal number of seconds since
// the Unix epoch, of digits only, and user may itself contain colons (Synapse has 1758650868:@alice:example.org). A name
// with a number at both ends reads as "expiry:user", as coturn reads it. The error is ErrNoExpiry.
func ParseExpiry(username string) (expires time.Time, user string, err error) {
	if head, rest, _ := strings.Cut(username, ":"); isNumber(head) {
		expires, err = parseSeconds(head)
		return expires, rest, err
	}
	if i := strings.LastIndexByte(username, ':'); i >= 0 && isNumber(username[i+1:]) {
		expires, err = parseSeconds(username[i+1:])
		return expires, username[:i], err
	}
	return time.Time{}, "", ErrNoExpiry
}

func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func parseSeconds(digits string) (time.Time, error) {
	seconds, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || seconds > lastSecond {
		return time.Time{}, ErrNoExpiry
	}
	return time.Unix(seconds, 0).UTC(), nil
}
