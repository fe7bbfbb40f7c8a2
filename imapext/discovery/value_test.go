package discovery

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
)

func unix(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

// values are values that Delta Chat core accepts or refuses.
var values = []struct {
	name, value string
	want        Value
	err         error
}{
	{"good", "example.com:3478:1758650868:8Dqkyyu11MVESBqjbIylmB06rv8=", Value{"example.com", 3478, "1758650868", "8Dqkyyu11MVESBqjbIylmB06rv8=", unix(1758650868)}, nil},
	{"IPv6 literal", "[2001:db8::1]:3478:1758650868:pw", Value{}, ErrPort},
	{"bare IPv6 literal", "2001:db8::1:3478:1758650868:pw", Value{}, ErrPort},
	{"bracketed IPv4", "[1.2.3.4]:3478:1758650868:pw", Value{"[1.2.3.4]", 3478, "1758650868", "pw", unix(1758650868)}, nil},
	{"user name without a number", "h:3478:alice:pw", Value{}, ErrTimestamp},
	{"expiry and user", "h:3478:1758650868:alice:pw", Value{"h", 3478, "1758650868", "alice:pw", unix(1758650868)}, nil},
	{"user and expiry", "h:3478:alice:1758650868:pw", Value{}, ErrTimestamp},
	{"leading zeros", "h:3478:0001758650868:pw", Value{"h", 3478, "0001758650868", "pw", unix(1758650868)}, nil},
	{"negative timestamp", "h:3478:-5:pw", Value{"h", 3478, "-5", "pw", unix(-5)}, nil},
	{"signs", "h:+3478:+5:pw", Value{"h", 3478, "+5", "pw", unix(5)}, nil},
	{"largest numbers", "h:65535:9223372036854775807:pw", Value{"h", 65535, "9223372036854775807", "pw", unix(farthest)}, nil},
	{"port beyond 16 bits", "h:65536:5:pw", Value{}, ErrPort},
	{"negative port", "h:-1:5:pw", Value{}, ErrPort},
	{"smallest number", "h:1:-9223372036854775808:pw", Value{"h", 1, "-9223372036854775808", "pw", unix(-farthest)}, nil},
	{"two signs", "h:++1:5:pw", Value{}, ErrPort},
	{"port with a space", "h: 3478:5:pw", Value{}, ErrPort},
	{"port with an underscore", "h:34_78:5:pw", Value{}, ErrPort},
	{"timestamp beyond 64 bits", "h:3478:9223372036854775808:pw", Value{}, ErrTimestamp},
	{"fraction", "h:3478:5.5:pw", Value{}, ErrTimestamp},
	{"no host", ":3478:5:pw", Value{"", 3478, "5", "pw", unix(5)}, nil},
	{"no password", "h:3478:5:", Value{"h", 3478, "5", "", unix(5)}, nil},
	{"no third colon", "h:3478:5", Value{}, ErrTimestamp},
	{"no second colon", "h:3478", Value{}, ErrPort},
	{"no colon", "h", Value{}, ErrHostname},
	{"empty", "", Value{}, ErrHostname},
	{"line break in the password", "h:3478:5:pw\n", Value{"h", 3478, "5", "pw\n", unix(5)}, nil},
}

func TestParseValue(t *testing.T) {
	for _, tt := range values {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseValue(tt.value)
			if got.Hostname != tt.want.Hostname || got.Port != tt.want.Port || got.Username != tt.want.Username ||
				got.Password != tt.want.Password || got.Expires != tt.want.Expires || !errors.Is(err, tt.err) {
				t.Errorf("ParseValue(%q) = %+v, %v, want %+v, %v", tt.value, got, err, tt.want, tt.err)
			}
		})
	}
}

func FuzzParseValue(f *testing.F) {
	for _, tt := range values {
		f.Add(tt.value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		v, err := ParseValue(value)
		if err != nil {
			return
		}
		again, err := ParseValue(fmt.Sprintf("%s:%d:%s:%s", v.Hostname, v.Port, v.Username, v.Password))
		if err != nil || again != v {
			t.Errorf("%q parses as %q %d %q, and that as %q %d %q, %v", value, v.Hostname, v.Port, v.Username, again.Hostname, again.Port, again.Username, err)
		}
		for _, now := range []time.Time{{}, time.Unix(0, 0), time.Unix(math.MaxInt32, 0)} {
			if left := v.Left(now); v.Expires.After(now) != (left > 0) {
				t.Errorf("%v left at %v until %v", left, now, v.Expires)
			}
		}
	})
}

func TestNeedsRefresh(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for _, tt := range []struct {
		left time.Duration
		want bool
	}{{12*time.Hour + time.Second, false}, {12 * time.Hour, true}, {-time.Hour, true}} {
		if got := (Value{Expires: now.Add(tt.left)}).NeedsRefresh(now); got != tt.want {
			t.Errorf("%v before the expiry: got %v, want %v", tt.left, got, tt.want)
		}
	}
}

func TestValueHidesItsPassword(t *testing.T) {
	v := Value{Hostname: "h", Port: 1, Username: "5", Password: "hunter2"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(verb, v); strings.Contains(got, "hunter2") {
			t.Errorf("%s prints %s", verb, got)
		}
	}
	for name, handler := range map[string]func(w io.Writer) slog.Handler{
		"JSON": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
	} {
		var log bytes.Buffer
		slog.New(handler(&log)).Info("found", "value", v, "decision", Decision{Value: v})
		if strings.Contains(log.String(), "hunter2") || !strings.Contains(log.String(), "[redacted]") {
			t.Errorf("a log in %s has %s", name, &log)
		}
	}
}
