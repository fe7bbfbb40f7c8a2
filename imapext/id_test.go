package imapext

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzID checks that the ID command that is forwarded has no field whose name begins with "x-".
func FuzzID(f *testing.F) {
	for _, seed := range []string{
		` ("x-originating-ip" "127.0.0.1")`, ` ("name" "client" X-Session-ID {3+}` + "\r\nabc)", ` ("\x-y" "" {3}` + "\nx-y NIL)", " NIL",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, arguments []byte) {
		kept, _, err := parseID(arguments)
		if err != nil {
			return
		}
		for i := 0; i < len(kept); i += 2 {
			name := string(kept[i])
			if _, octets, ok := strings.Cut(name, "\n"); ok {
				name = octets
			}
			name = strings.ReplaceAll(strings.TrimPrefix(name, `"`), `\`, "")
			if strings.HasPrefix(strings.ToLower(name), "x-") {
				t.Errorf("%q keeps %q", arguments, kept[i])
			}
		}
		again, dropped, err := parseID(append(append([]byte(" ("), bytes.Join(kept, []byte(" "))...), ')'))
		if err != nil || dropped || len(again) != len(kept) {
			t.Errorf("%q becomes %q, which is read as %q, %v, %v", arguments, kept, again, dropped, err)
		}
	})
}
