package discovery

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The entries that clients know (RFC 5464 section 3.2.1).
const (
	TURNEntry  = "/shared/vendor/deltachat/turn"
	TURNSEntry = "/shared/vendor/deltachat/turns"
)

// Value is a parsed value of the entry TURNEntry. It prints without its password.
type Value struct {
	Hostname string // as written, brackets included: it is looked up like that
	Port     uint16
	// Username is the expiry as written, with leading zeros and sign: the password belongs to these bytes.
	Username string
	Password string
	// Expires is in UTC. It is at most 2^62 seconds from the Unix epoch; only a mistake exceeds that.
	Expires time.Time
}

// farthest is how far from the Unix epoch Value.Expires can be, in seconds. Times of more than 2^63 less 62e9 compare wrongly.
const farthest = 1 << 62

// Errors of ParseValue, in the order of the parts.
var (
	ErrHostname  = errors.New("there is no colon after the host name")
	ErrPort      = errors.New("the port is not a number from 0 to 65535 followed by a colon")
	ErrTimestamp = errors.New("the expiry is not a 64-bit number followed by a colon")
)

// ParseValue splits host:port:expiry:password at the first three colons, as Delta Chat core does. It checks neither the host
// nor the password, which may contain colons. It reads numbers as Rust does: a leading plus sign is accepted, and for the expiry
// a minus sign.
func ParseValue(value string) (Value, error) {
	host, rest, found := strings.Cut(value, ":")
	if !found {
		return Value{}, ErrHostname
	}
	port, rest, found := strings.Cut(rest, ":")
	number, err := strconv.ParseUint(strings.TrimPrefix(port, "+"), 10, 16)
	if !found || err != nil {
		return Value{}, ErrPort
	}
	timestamp, password, found := strings.Cut(rest, ":")
	expires, err := strconv.ParseInt(timestamp, 10, 64)
	if !found || err != nil {
		return Value{}, ErrTimestamp
	}
	return Value{
		Hostname: host, Port: uint16(number), Username: timestamp, Password: password,
		Expires: time.Unix(max(-farthest, min(expires, farthest)), 0).UTC(),
	}, nil
}

// Left returns how long the credential is still valid at now; negative if it has expired. A difference that a Duration cannot hold,
// 292 years or more, becomes the longest or shortest Duration.
func (v Value) Left(now time.Time) time.Duration { return v.Expires.Sub(now) }

// String returns the value without its password.
func (v Value) String() string {
	return fmt.Sprintf("%s:%d:%s:[redacted]", v.Hostname, v.Port, v.Username)
}

// GoString returns what String does, so that %#v does not print the password.
func (v Value) GoString() string { return v.String() }

// MarshalText returns what String does, so that neither JSON nor a handler of log/slog writes the password.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// RefreshBefore is how long before the expiry core asks for another credential, whenever it goes through its inbox.
const RefreshBefore = 12 * time.Hour

// NeedsRefresh reports whether core would ask again at now.
func (v Value) NeedsRefresh(now time.Time) bool { return v.Left(now) <= RefreshBefore }
