package imap

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/imapext"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// TestAccountHasOneOfSeveralRelays checks that both entries of an account name the relay that issuer.Config.For chooses for it, or
// for its address if the account's name is not known.
func TestAccountHasOneOfSeveralRelays(t *testing.T) {
	turn := TURN{Enable: config.Value[bool]{V: true}}
	for i := range 3 {
		turn.Relays = append(turn.Relays, issuer.WeightedRelay{Weight: 1, Config: issuer.Config{
			Server: config.Value[string]{V: fmt.Sprintf("turn%d.example.org", i)}, UDPPort: 3478, TLSPort: config.Value[uint16]{V: 5349},
			Secrets: config.Value[[]credential.Secret]{V: []credential.Secret{credential.NewSecret([]byte("test-secret"))}},
			TTL:     config.Value[time.Duration]{V: time.Hour},
		}})
	}
	var live liveEntries
	live.set(&Config{TURN: turn})
	seen := make(map[string]bool)
	for i := range 20 {
		account := fmt.Sprintf("user%d@example.org", i)
		remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 40000+uint16(i))
		for name, session := range map[string]imapext.Session{
			account:                {Account: account, Remote: remote},
			remote.Addr().String(): {Remote: remote},
		} {
			want := turn.For(name).Server.V
			seen[want] = true
			for _, entry := range live.Entries(session) {
				if got := fmt.Sprint(entry.Value); !strings.Contains(got, want+":") {
					t.Errorf("%s: %s is %s, want a value of %s", name, entry.Name, got, want)
				}
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("the accounts have %d relays, want 3", len(seen))
	}
}
