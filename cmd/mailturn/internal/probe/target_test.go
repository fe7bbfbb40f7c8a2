package probe

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailturn/mailturn/imapext/discovery"
)

func TestParseTarget(t *testing.T) {
	udpTCP := []Transport{UDP, TCP}
	for _, tt := range []struct {
		in   string
		want Target
		text string
	}{
		{"imaps://alice%40example.org@mail.example.org", Target{Kind: IMAP, Host: "mail.example.org", Port: 993, Username: "alice@example.org"}, "imaps://alice%40example.org@mail.example.org"},
		{"imaps://alice@[2001:db8::1]:1993", Target{Kind: IMAP, Host: "2001:db8::1", Port: 1993, Username: "alice"}, "imaps://alice@[2001:db8::1]:1993"},
		{"imap://alice@mail.example.org:1143", Target{Kind: IMAP, Host: "mail.example.org", Port: 1143, Username: "alice", Security: discovery.StartTLS}, "imap://alice@mail.example.org:1143"},
		{"turn:turn.example.org", Target{Kind: TURN, Host: "turn.example.org", Port: 3478, Transports: udpTCP}, "turn:turn.example.org"},
		{"turn:turn.example.org:443", Target{Kind: TURN, Host: "turn.example.org", Port: 443, Transports: udpTCP}, "turn:turn.example.org:443"},
		{"turn:[2001:db8::1]:3478?transport=udp", Target{Kind: TURN, Host: "2001:db8::1", Port: 3478, Transports: []Transport{UDP}}, "turn:[2001:db8::1]:3478?transport=udp"},
		{"turn:[2001:db8::1]", Target{Kind: TURN, Host: "2001:db8::1", Port: 3478, Transports: udpTCP}, "turn:[2001:db8::1]"},
		{"turn:203.0.113.7?transport=tcp", Target{Kind: TURN, Host: "203.0.113.7", Port: 3478, Transports: []Transport{TCP}}, "turn:203.0.113.7?transport=tcp"},
		{"TURNS:turn.example.org?transport=tcp", Target{Kind: TURN, Host: "turn.example.org", Port: 5349, Transports: []Transport{TLS}}, "turns:turn.example.org?transport=tcp"},
		{"turn.example.org:3478:5:hunter2", Target{Kind: Line}, "turn.example.org:3478:5:[redacted]"},
		{"turn:3478:5:hunter2", Target{Kind: Line}, "turn:3478:5:[redacted]"},
		{"turn.example.org:3478:alice:hunter2", Target{Kind: Line}, "a metadata line that does not parse"},
		{"[2001:db8::1]:3478:5:hunter2", Target{Kind: Line}, "a metadata line that does not parse"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseTarget(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreUnexported(Target{})); diff != "" {
				t.Error(diff)
			}
			for _, text := range []string{got.String(), fmt.Sprintf("%v", got), fmt.Sprintf("%+v", got), fmt.Sprintf("%#v", got)} {
				if text != tt.text {
					t.Errorf("prints as %q, want %q", text, tt.text)
				}
			}
		})
	}
	for _, in := range []string{
		"", "turn.example.org", "turn.example.org:3478", "turn:", "turn::3478", "turn:h:0", "turn:h:65536", "turn:h?transport=sctp",
		"turns:h?transport=udp", "turn:alice@h", "turn://h", "imaps://h", "imaps://alice@", "imaps://alice@h:0", "imaps://alice:hunter2@h",
		"imaps://alice:hunter2@h:port",
	} {
		if got, err := ParseTarget(in); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseTarget(%q) = %v, %v", in, got, err)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, in := range []string{"imaps://a%40b@h:1", "turn:h:1?transport=udp", "turns:[::1]", "h:1:5:pw"} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		target, err := ParseTarget(in)
		if err == nil && target.Kind != Line && (target.Host == "" || target.Port == 0) {
			t.Errorf("%q has host %q and port %d", in, target.Host, target.Port)
		}
	})
}
