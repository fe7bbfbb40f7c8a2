package embedded

import (
	"strings"
	"testing"
)

func TestCheckUser(t *testing.T) {
	for _, tt := range []struct{ name, password, want string }{
		{"alice", "wonderland", ""},
		{"alice@example.org", string(bcryptOf(t, "wonderland")), ""},
		{"", "wonderland", "the user name is empty"},
		{strings.Repeat("a", 256), "wonderland", "256 bytes"},
		{"al\x00ice", "wonderland", "control character"},
		{"alice", "", `user "alice": the password is empty`},
		{"alice", "$6$abc$def", `user "alice": the password begins with $`},
	} {
		err := checkUser(tt.name, tt.password)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("checkUser(%q, %q) = %v, want %q", tt.name, tt.password, err, tt.want)
		}
	}
}
