package issuer

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/config/configtest"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// relayBlock returns a relay block for an external server.
func relayBlock(server string, weight int) string {
	return fmt.Sprintf(`
  relay {
    turn_server = %q
    turn_secret = %q
    weight      = %d
  }`, server, secretB, weight)
}

// choices returns how many of n accounts each server has, and the server of each account.
func choices(c Config, n int) (count map[string]int, of []string) {
	count = make(map[string]int)
	for i := range n {
		server := c.For(fmt.Sprintf("user%d@example.org", i)).Server.V
		count[server]++
		of = append(of, server)
	}
	return count, of
}

const accounts = 20000

func linked(t *testing.T, attributes string) Config {
	t.Helper()
	c, block := decode(t, attributes)
	if diags := c.Link(nil, block); len(diags) > 0 {
		t.Fatal(diags)
	}
	return c
}

// TestForSharesByWeight checks that each relay has its share of the accounts, within five standard deviations.
func TestForSharesByWeight(t *testing.T) {
	weights := map[string]int{"one.example.org": 1, "two.example.org": 2, "five.example.org": 5, "none.example.org": 0}
	var blocks string
	for _, server := range []string{"one.example.org", "two.example.org", "five.example.org", "none.example.org"} {
		blocks += relayBlock(server, weights[server])
	}
	count, _ := choices(linked(t, blocks), accounts)
	for server, weight := range weights {
		p := float64(weight) / 8
		want, deviation := accounts*p, math.Sqrt(accounts*p*(1-p))
		if got := float64(count[server]); math.Abs(got-want) > 5*deviation {
			t.Errorf("%s with weight %d of 8 has %v of %d accounts, want %v ± %.0f", server, weight, got, accounts, want, 5*deviation)
		}
	}
}

// TestForMovesOnlyAShare adds a relay, and changes the weight of one, and checks that accounts move only to that relay, from all
// others.
func TestForMovesOnlyAShare(t *testing.T) {
	three := relayBlock("a.example.org", 1) + relayBlock("b.example.org", 1) + relayBlock("c.example.org", 1)
	_, before := choices(linked(t, three), accounts)
	for name, tt := range map[string]struct{ blocks, winner string }{
		"another relay":  {relayBlock("d.example.org", 1) + three, "d.example.org"},
		"another weight": {strings.Replace(three, "weight      = 1", "weight      = 2", 1), "a.example.org"},
	} {
		t.Run(name, func(t *testing.T) {
			_, after := choices(linked(t, tt.blocks), accounts)
			moved := 0
			from := make(map[string]int)
			for i := range before {
				if before[i] == after[i] {
					continue
				}
				moved++
				from[before[i]]++
				if after[i] != tt.winner {
					t.Fatalf("account %d moved from %s to %s, and the winner is %s", i, before[i], after[i], tt.winner)
				}
			}
			if moved == 0 || moved > accounts/3 {
				t.Errorf("%d of %d accounts moved", moved, accounts)
			}
			for _, loser := range []string{"a.example.org", "b.example.org", "c.example.org"} {
				if loser != tt.winner && from[loser] == 0 {
					t.Errorf("none moved from %s", loser)
				}
			}
		})
	}
}

// TestForIsStable pins the choice, because a change would move the accounts of running servers.
func TestForIsStable(t *testing.T) {
	c := linked(t, relayBlock("a.example.org", 1)+relayBlock("b.example.org", 2)+relayBlock("c.example.org", 3))
	var got []string
	for _, account := range []string{"alice@example.org", "bob@example.org", "carol@example.org", "dave@example.org", "erin@example.org"} {
		got = append(got, c.For(account).Server.V[:1])
	}
	if want := []string{"b", "b", "b", "c", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestForIgnoresCase checks that the case of a name does not change the relay.
func TestForIgnoresCase(t *testing.T) {
	c := linked(t, relayBlock("a.example.org", 1)+relayBlock("b.example.org", 1))
	for i := range 100 {
		account := fmt.Sprintf("user%d@example.org", i)
		if lower, upper := c.For(account).Server.V, c.For(strings.ToUpper(account)).Server.V; lower != upper {
			t.Fatalf("%s has %s, and in upper case %s", account, lower, upper)
		}
	}
}

// TestForIssues checks that an account gets its relay's ports and secret, and the lifetime of all relays.
func TestForIssues(t *testing.T) {
	c, block := decode(t, `
  turn_ttl = "24h"
  relay {
    turn_server = "coturn.example.org"
    turn_port   = 13478
    turns_port  = 0
    turn_secret = "`+secretB+`"
  }
  relay {
    turns_port = 443
  }`)
	if diags := c.Link(testRelay(), block); len(diags) > 0 {
		t.Fatal(diags)
	}
	now := time.Unix(1758650868-86400, 0)
	got := make(map[string]bool)
	for i := range 100 {
		relay := c.For(fmt.Sprint(i))
		turn, turns := relay.Values(relay.Issue(now))
		got[turn+" "+turns+" "+string(relay.Secrets.V[0].Bytes())] = true
		if len(relay.URIs()) < 2 {
			t.Errorf("got the URIs %q", relay.URIs())
		}
	}
	credentialOf := func(secret string) string {
		return "1758650868:" + Config{Secrets: config.Value[[]credential.Secret]{V: secrets(secret)}, TTL: c.TTL}.Issue(now).Password
	}
	for _, want := range []string{
		"coturn.example.org:13478:" + credentialOf(secretB) + "  " + secretB,
		"mail.example.org:3478:" + credentialOf(secretA) + " mail.example.org:443:" + credentialOf(secretA) + " " + secretA,
	} {
		if !got[want] {
			t.Errorf("nobody got %q, but %v", want, got)
		}
	}
	if len(got) != 2 {
		t.Errorf("got %d answers, want 2: %v", len(got), got)
	}
}

// TestSetSecrets checks that a secret that is generated later is set only for the relays of this server.
func TestSetSecrets(t *testing.T) {
	c, block := decode(t, relayBlock("coturn.example.org", 1)+"\n  relay {}")
	relay := testRelay()
	relay.Secrets = nil
	if diags := c.Link(relay, block); len(diags) > 0 {
		t.Fatal(diags)
	}
	if c.CheckSecret() == nil {
		t.Error("can issue without a secret")
	}
	c.SetSecrets(secrets(secretA))
	if c.CheckSecret() != nil {
		t.Error("cannot issue with a secret")
	}
	for i, want := range []string{secretB, secretA} {
		if got := string(c.Relays[i].Secrets.V[0].Bytes()); got != want {
			t.Errorf("relay %d has the secret %q, want %q", i, got, want)
		}
	}
}

func TestLocalPorts(t *testing.T) {
	c, _ := decode(t, strings.Replace(relayBlock("coturn.example.org", 1), "weight ", "turn_port = 13478\n    weight ", 1)+"\n  relay { turn_port = 443 }")
	if got := c.LocalPorts(); !slices.Contains(got, 443) || slices.Contains(got, 13478) {
		t.Errorf("got the ports %v, want 443 and none of the relay elsewhere", got)
	}
}

func TestRelayMistakes(t *testing.T) {
	text := []byte(`endpoint "door" "two places" {
  turn_server = "turn.example.org" # ERROR: Relay is configured in two places: turn_server is for a single relay
  turn_secret = "` + secretA + `" # ERROR: Relay is configured in two places: turn_secret is for a single relay
  relay {
    turn_server = "a.example.org"
    turn_secret = "` + secretA + `"
  }
}
endpoint "door" "blocks" {
  turn_prefer_tls = true
  relay {
    turn_server = "2001:db8::1" # ERROR: Server is an IPv6 address
    turn_secret = "north" # ERROR: Secret is not secret
    weight      = 1001 # ERROR: Out of range: weight is 1001: want 0 to 1000
  }
  relay { # ERROR: TURN server name is missing
    turn_secret = "` + secretA + `"
  }
  relay {
    turn_server = "b.example.org"
    turn_secret = "` + secretA + `"
    turns_port  = 0 # ERROR: TLS is preferred but not available
  }
  relay {
    turn_server = "c.example.org" # ERROR: Relay secret is missing
  }
  relay { # ERROR: Duplicate relay: b.example.org:3478
    turn_server = "b.example.org"
    turn_secret = "` + secretB + `"
  }
}
endpoint "door" "nobody" {
  relay { # ERROR: No relay has a share
    turn_server = "a.example.org"
    turn_secret = "` + secretA + `"
    weight      = 0
  }
}
`)
	file, diags := config.Parse("door.conf", text)
	for _, endpoint := range file.Endpoints {
		var door struct{ Schema }
		diags = append(diags, endpoint.Decode(&door)...)
		c, more := Decode(endpoint, door.Schema, "mail.example.org")
		diags = append(append(diags, more...), c.Link(nil, endpoint.Range)...)
	}
	configtest.Expect(t, map[string][]byte{"door.conf": text}, diags)
}
