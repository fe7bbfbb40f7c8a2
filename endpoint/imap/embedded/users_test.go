package embedded

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

func TestReadUsers(t *testing.T) {
	bcrypt := string(bcryptOf(t, "wonderland"))
	for _, tt := range []struct {
		name, text string
		want       map[string]string
		wantErr    string
	}{
		{"empty", "", map[string]string{}, ""},
		{"comments and empty lines", "# users\n\n  \nalice:wonderland\n", map[string]string{"alice": "wonderland"}, ""},
		{"htpasswd", "alice@example.org:" + bcrypt + "\r\nbob:builder", map[string]string{"alice@example.org": bcrypt, "bob": "builder"}, ""},
		{"colons and spaces in a password", "alice: a:b \n", map[string]string{"alice": " a:b "}, ""},
		{"no colon", "alice\n", nil, "line 1 has no colon"},
		{"empty name", "\n:secret\n", nil, "line 2: the user name is empty"},
		{"empty password", "alice:\n", nil, "line 1: user \"alice\": the password is empty"},
		{"unknown hash", "alice:$6$abc$def\n", nil, "line 1: user \"alice\""},
		{"twice", "alice:a\nalice:b\n", nil, "line 2: duplicate user \"alice\""},
		{"long name", strings.Repeat("a", 256) + ":x\n", nil, "256 bytes"},
		{"long line", "alice:x\nbob:" + strings.Repeat("x", maxUserLineLen) + "\n", nil, "line 2 is longer than 4096 bytes"},
		{"NUL", "al\x00ice:x\n", nil, "control character"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readUsers(strings.NewReader(tt.text))
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("got error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil || !maps.Equal(got, tt.want) {
				t.Errorf("got %q and %v, want %q", got, err, tt.want)
			}
		})
	}
	var many strings.Builder
	for i := range maxUsers + 1 {
		fmt.Fprintf(&many, "user%d:x\n", i)
	}
	if _, err := readUsers(strings.NewReader(many.String())); err == nil || !strings.Contains(err.Error(), "more than 10000") {
		t.Errorf("too many users: %v", err)
	}
}
