package upstream

import "testing"

func TestWithoutCapabilities(t *testing.T) {
	for greeting, want := range map[string]string{
		"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] Dovecot ready.\r\n": "* OK Dovecot ready.\r\n",
		"* ok [capability IMAP4rev1]\r\n":                                       "* OK Ready\r\n",
		"* OK Cyrus [x]\r\n":                                                    "* OK Cyrus [x]\r\n",
		"* OK [ALERT] disk is full\r\n":                                         "* OK [ALERT] disk is full\r\n",
		"* OK [CAPABILITYX] a\r\n":                                              "* OK [CAPABILITYX] a\r\n",
		"* OK [CAPABILITY never closed\r\n":                                     "* OK [CAPABILITY never closed\r\n",
	} {
		if got := string(withoutCapabilities([]byte(greeting))); got != want {
			t.Errorf("%q: got %q, want %q", greeting, got, want)
		}
	}
}
