package embedded

import (
	"strings"
	"testing"
)

func TestMIMEStructure(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("Content-Type: message/rfc822\r\n\r\n", n) }
	multipart := func(n int) string {
		return strings.Repeat("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n", n)
	}
	flat := func(n int) string {
		return "Content-Type: multipart/mixed; boundary=a\r\n\r\n" + strings.Repeat("--a\r\n\r\nx\r\n", n) + "--a--\r\n"
	}
	for _, tt := range []struct {
		name, message string
		ok            bool
	}{
		{"plain", "Subject: x\r\n\r\nbody", true},
		{"empty", "", true},
		{"garbage", "\xff\x00garbage", true},
		{"forwarded message", nested(3) + "Subject: x\r\n\r\n", true},
		{"at the bound", nested(maxMessageNesting) + "Subject: x\r\n\r\n", true},
		{"beyond", nested(maxMessageNesting+1) + "Subject: x\r\n\r\n", false},
		{"far beyond", nested(100_000), false},
		{"upper case", strings.ToUpper(nested(100_000)), false},
		{"folded", strings.ReplaceAll(nested(1000), "message/", "\r\n message/"), false},
		{"multiparts", multipart(maxMultipartNesting) + "\r\nx", true},
		{"too many multiparts", multipart(1000), false},
		{"parts", flat(maxParts - 1), true},
		{"too many parts", flat(maxParts + 1), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := checkMIME([]byte(tt.message)); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
	w := dialIn(t, start(t, nil))
	if got := w.appendMessage("INBOX", nested(100_000)); !strings.HasPrefix(got, "append NO [LIMIT]") {
		t.Errorf("APPEND of a nested message: %q", got)
	}
}
