package upstream

import (
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadGreeting(t *testing.T) {
	for _, tt := range []struct {
		name, said      string
		greeting, ahead string // of those that are accepted
		err             string
	}{
		{"OK", "* OK ready\r\n", "* OK ready\r\n", "", ""},
		{"small letters, bare LF", "* ok ready\n", "* ok ready\n", "", ""},
		{"data after it", "* PREAUTH in\r\n* 5 EXISTS\r\n", "* PREAUTH in\r\n", "* 5 EXISTS\r\n", ""},
		{"BYE", "* BYE [UNAVAILABLE] later\r\n", "", "", `greeted with BYE "[UNAVAILABLE] later"`},
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", "", "", `not an IMAP greeting: "HTTP/1.1 400 Bad Request\r\n"`},
		{"POP3", "+OK ready\r\n", "", "", `not an IMAP greeting: "+OK ready\r\n"`},
		{"SMTP", "220 mail.example.org ESMTP\r\n", "", "", "not an IMAP greeting"},
		{"TLS alert", "\x15\x03\x03\x00\x02\x02\x46\n", "", "", "not an IMAP greeting"},
		{"tagged", "a OK ready\r\n", "", "", "not an IMAP greeting"},
		{"data", "* CAPABILITY IMAP4rev1\r\n", "", "", "not an IMAP greeting"},
		{"end", "", "", "", "greeting: unexpected EOF"},
		{"end in the middle", "* OK re", "", "", "greeting: unexpected EOF"},
		{"no end", "* OK " + strings.Repeat("x", 1<<20), "", "", "greeting: line is longer than 8192 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			greeting, ahead, err := ReadGreeting(strings.NewReader(tt.said))
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Errorf("got %q and %v, want the error %s", greeting, err, tt.err)
				}
				return
			}
			if err != nil || string(greeting) != tt.greeting || string(ahead) != tt.ahead {
				t.Errorf("got %q, %q, %v, want %q and %q", greeting, ahead, err, tt.greeting, tt.ahead)
			}
			greeting, _, err = ReadGreeting(iotest.OneByteReader(strings.NewReader(tt.said)))
			if err != nil || string(greeting) != tt.greeting {
				t.Errorf("byte by byte: got %q, %v, want %q", greeting, err, tt.greeting)
			}
		})
	}
}
