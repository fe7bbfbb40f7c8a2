package embedded

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
)

// TestAuthenticate logs in to the embedded server by SASL.
func TestAuthenticate(t *testing.T) {
	for _, tt := range []struct {
		name, mechanism, message string // of PLAIN: authzid NUL authcid NUL passwd
		want                     string
	}{
		{"good", "PLAIN", "\x00alice\x00wonderland", "OK [CAPABILITY IMAP4rev2"},
		{"as oneself", "plain", "alice\x00alice\x00wonderland", "OK [CAPABILITY IMAP4rev2"},
		{"wrong password", "PLAIN", "\x00alice\x00nonsense", "NO [AUTHENTICATIONFAILED]"},
		{"as somebody else", "PLAIN", "bob\x00alice\x00wonderland", "NO [AUTHORIZATIONFAILED]"},
		{"no password", "PLAIN", "\x00alice", "BAD Malformed"},
		{"too many parts", "PLAIN", "\x00alice\x00wonderland\x00", "BAD Malformed"},
		{"another mechanism", "XOAUTH2", "user=alice\x01auth=Bearer t0ken\x01\x01", "NO "},
	} {
		for _, initial := range []bool{true, false} {
			name := tt.name
			if initial {
				name += ", with an initial response"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := dial(t, start(t, nil))
					message := base64.StdEncoding.EncodeToString([]byte(tt.message))
					if initial {
						w.send("c AUTHENTICATE %s %s\r\n", tt.mechanism, message)
					} else {
						w.send("c AUTHENTICATE %s\r\n", tt.mechanism)
						if line := w.line(); strings.HasPrefix(line, "+") {
							w.send("%s\r\n", message)
						} else if !strings.HasPrefix(line, "c "+tt.want) {
							t.Fatalf("got %q, want %s", line, tt.want)
						} else {
							return
						}
					}
					if got := w.until("c"); !strings.HasPrefix(got, "c "+tt.want) {
						t.Errorf("got %q, want %s", got, tt.want)
					}
				})
			})
		}
	}
}
