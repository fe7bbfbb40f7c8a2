package credential

import (
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mailturn/mailturn/turnsrv/internal/hmacsha1"
)

// Credential is a user name with its password. The password is excluded from formatted output and log lines.
type Credential struct {
	Username string
	Password string
	Expires  time.Time
}

// String returns the user name and the expiry.
func (c Credential) String() string {
	return fmt.Sprintf("%s (until %s)", c.Username, c.Expires.UTC().Format(time.RFC3339))
}

// GoString returns the result of String, so that %#v does not print the password.
func (c Credential) GoString() string { return c.String() }

// LogValue returns the credential without its password.
func (c Credential) LogValue() slog.Value {
	return slog.GroupValue(slog.String("username", c.Username), slog.Time("expires", c.Expires))
}

// Issuer issues credentials under one secret. It has no state. Safe for concurrent use.
type Issuer struct {
	Secret Secret
	TTL    time.Duration // from the moment of issue to expiry
}

// Issue returns a credential that expires at now + TTL, rounded down to the second. The user name consists only of the expiry
// in seconds since the Unix epoch, because Delta Chat parses it as an integer.
func (i Issuer) Issue(now time.Time) Credential { return i.IssueFor("", now) }

// IssueFor is like Issue, but appends ":" and user to the user name unless user is empty. That is the form of the TURN REST API
// (draft-uberti-behave-turn-rest-00 section 2.2), which Delta Chat cannot parse.
func (i Issuer) IssueFor(user string, now time.Time) Credential {
	second := now.Add(i.TTL).Unix()
	if user == "" {
		return i.at(second)
	}
	return i.named(strconv.FormatInt(second, 10)+":"+user, second)
}

// at returns the credential that expires at the given second since the Unix epoch. That second is also its user name.
func (i Issuer) at(second int64) Credential { return i.serial(serialOf(0, second)) }

// serial returns the credential with a user name.
func (i Issuer) serial(name serial) Credential { return i.named(name.String(), name.second()) }

func (i Issuer) named(username string, expires int64) Credential {
	return Credential{Username: username, Password: Password(i.Secret, username), Expires: time.Unix(expires, 0).UTC()}
}

// Password returns the password of username: base64(HMAC-SHA1(secret, username)) with padding.
func Password(secret Secret, username string) string {
	mac := hmacsha1.Sum(secret.Bytes(), []byte(username))
	return base64.StdEncoding.EncodeToString(mac[:])
}

// LongTermKey returns the key for signing requests with long-term credentials: MD5(username ":" realm ":" password), RFC 8489
// section 9.2.2. The strings are used unchanged. All known clients send ASCII, which OpaqueString (RFC 8265) does not change.
func LongTermKey(username, realm, password string) []byte {
	b := make([]byte, 0, 256) // enough for most, so that it is on the stack
	for i, s := range [...]string{username, realm, password} {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, s...)
	}
	sum := md5.Sum(b)
	return sum[:]
}

// errNoExpiry is returned for a user name without a valid expiry.
var errNoExpiry = errors.New("user name contains no expiry time")

// lastSecond is the end of the year 9999. Later expiries are rejected before arithmetic with them can overflow.
const lastSecond = 253402300799

// parseExpiry splits the user name of an issued credential into its expiry and user.
//
// Three forms are in use: "expiry", "expiry:user" and "user:expiry". expiry is a decimal number of seconds since the Unix
// epoch, and user may contain colons (Synapse uses 1758650868:@alice:example.org). A name with a number at both ends is read as
// "expiry:user", as in coturn.
//
// An expiry at the end may be preceded by a plus sign and followed by other characters, because coturn reads it with atol: some
// issuers write expiries with a fraction (1758650868.42) or another separator (1758650868-john). The user then follows the
// fraction and the separator. The error is errNoExpiry.
func parseExpiry(username string) (expires time.Time, user string, err error) {
	head, rest, colon := strings.Cut(username, ":")
	if isNumber(head) {
		expires, err = parseSeconds(head)
		return expires, rest, err
	}
	if !colon {
		return parseLoose(username)
	}
	// The issuer wrote the part after the last colon. The part before it may have been chosen by the user.
	i := strings.LastIndexByte(username, ':')
	expires, _, err = parseLoose(username[i+1:])
	if err != nil {
		return time.Time{}, "", err
	}
	return expires, username[:i], nil
}

// parseLoose parses the number at the start of s as atol does, and the rest as a user.
func parseLoose(s string) (expires time.Time, user string, err error) {
	digits, rest := cutNumber(strings.TrimPrefix(s, "+"))
	if expires, err = parseSeconds(digits); err != nil || strings.ContainsFunc(rest, unicode.IsControl) {
		return time.Time{}, "", errNoExpiry
	}
	if fraction, ok := strings.CutPrefix(rest, "."); ok {
		if _, after := cutNumber(fraction); after != fraction {
			rest = after
		}
	}
	first, size := utf8.DecodeRuneInString(rest)
	if !unicode.IsLetter(first) && !unicode.IsDigit(first) {
		rest = rest[size:] // the separator
	}
	return expires, rest, nil
}

// cutNumber splits s after its leading digits.
func cutNumber(s string) (digits, rest string) {
	rest = strings.TrimLeft(s, "0123456789")
	return s[:len(s)-len(rest)], rest
}

func isNumber(s string) bool {
	digits, rest := cutNumber(s)
	return digits != "" && rest == ""
}

func parseSeconds(digits string) (time.Time, error) {
	seconds, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || seconds > lastSecond {
		return time.Time{}, errNoExpiry
	}
	return time.Unix(seconds, 0).UTC(), nil
}
