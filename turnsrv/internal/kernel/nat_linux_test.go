//go:build amd64 || arm64

package kernel

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestHasNAT looks for rules of NAT while there are none, empty chains, rules of a filter, and rules of NAT.
func TestHasNAT(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil && os.Getenv("MAILTURN_E2E") == "" {
		t.Skip("requires nft(8) of nftables")
	}
	n := turntest.NewNetwork(t)
	n.In(t, n.Server, func() {
		for _, step := range []struct {
			rules string
			want  bool
		}{
			{"", false},
			{"table inet f { chain c { type filter hook input priority 0; ct state established accept; udp dport 9 drop; }; }", false},
			{"table ip n { chain c { type nat hook postrouting priority 100; }; }", false},
			{"add rule ip n c oifname veth2 masquerade", true},
			{"delete table ip n", false},
			{"table ip6 n { chain c { type nat hook prerouting priority -100; udp dport 9 redirect to :10; }; }", true},
		} {
			if step.rules != "" {
				c := exec.Command("nft", "-f", "-")
				c.Stdin = strings.NewReader(step.rules + "\n")
				if out, err := c.CombinedOutput(); err != nil {
					t.Errorf("nft: %v\n%s", err, out)
					return
				}
			}
			if got, err := HasNAT(); err != nil || got != step.want {
				t.Errorf("after %q: %v (%v), want %v", step.rules, got, err, step.want)
			}
		}
	})
}
