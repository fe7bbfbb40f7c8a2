package discovery

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The entries that clients know (RFC 5464 section 3.2.1).
const (
	TURNEntry  = "/shared/vendor/deltachat/turn"
	TURNSEntry = "/shared/vendor/deltachat/turns"
)

// Value is the value of the entry TURNEntry, taken apart. Its password stays out of formats and log lines.
type Value struct {
	Hostname string // as it stands there, brackets included; it is looked up like that
	Port     uint16
	// Username is the expiry as it was written, leading zeros and sign included: the password belongs to these bytes.
	Username string
	Password string
	Expires  int64 // seconds since the Unix epoch
}

// Errors of ParseValue, in the order in which the parts are looked at.
var (
	ErrHostname  = errors.New("no colon behind the host name")
	ErrPort      = errors.New("the port is not a number from 0 to 65535 with a colon behind it")
	ErrTimestamp = errors.New("the third part is not a 64-bit number with a colon behind it, as an expiry has to be")
)

// ParseValue splits host:port:timestamp:password at the first three colons, as Delta Chat core does. The host is not
// looked at, nor is the password, which may hold colons. The numbers are read as Rust reads them: a leading plus sign is
// accepted, and for the timestamp a minus sign.
func ParseValue(value string) (Value, error) {
	var v Value
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
	v.Expires, err = strconv.ParseInt(timestamp, 10, 64)
	if !found || err != nil {
		return Value{}, ErrTimestamp
	}
	v.Hostname, v.Port, v.Username, v.Password = host, uint16(number), timestamp, password
	return v, nil
}

// Left returns how long the credential is still good at a time; negative when it has expired. What a Duration
// cannot hold, 292 years and more, is cut to the longest one.
func (v Value) Left(now time.Time) time.Duration {
	const longest = int64(1<<63-1) / int64(time.Second)
	seconds := v.Expires - now.Unix()
	if v.Expires > math.MaxInt64/2 || v.Expires < math.MinInt64/2 { // so far off that now could make it overflow
		seconds = v.Expires
	}
	return time.Duration(max(-longest, min(seconds, longest))) * time.Second
}

// String returns the value without its password.
func (v Value) String() string {
	return fmt.Sprintf("%s:%d:%s:[redacted]", v.Hostname, v.Port, v.Username)
}

// GoString returns what String does, so that %#v does not print the password.
func (v Value) GoString() string { return v.String() }

// MarshalText returns what String does, so that neither JSON nor a handler of log/slog writes the password.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// RefreshBefore is how long before its expiry a credential is asked for again, whenever core goes through its inbox.
const RefreshBefore = 12 * time.Hour

// NeedsRefresh reports whether core would ask again at a time.
func (v Value) NeedsRefresh(now time.Time) bool { return v.Left(now) <= RefreshBefore }
