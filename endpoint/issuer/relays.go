package issuer

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// A WeightedRelay is one of several relays, with its share of the accounts.
type WeightedRelay struct {
	Config           // TTL and PreferTLS are the same for all relays
	Weight int       // not negative
	Region string    // empty for one of the file
	Range  hcl.Range // of the block's header
}

// decodeRelays checks the relay blocks as far as possible without the TURN endpoint.
func (c *Config) decodeRelays(s Schema, hostname string) (diags hcl.Diagnostics) {
	if len(s.Relays) == 0 {
		return nil
	}
	for _, given := range c.Given {
		switch name, _, inBlock := strings.Cut(given.Name, "."); {
		case inBlock, name == "relay":
		case name == "turn_ttl", name == "turn_prefer_tls": // which are for all relays
		default:
			diags = append(diags, config.WithHint(config.Errorf(given.Range, "Relay is configured in two places",
				"%s is for a single relay, but there are relay blocks, from %s on.", name, config.Place(s.Relays[0].Range)),
				"move "+name+" into the relay block that it is for"))
		}
	}
	total := 0
	for _, block := range s.Relays {
		total += block.Weight
		issuing := config.Defaults[CredentialSchema]()
		issuing.TurnSecret = block.TurnSecret
		relay, relayDiags := decodeSingle(Schema{
			TurnServer: block.TurnServer, TurnPort: block.TurnPort, Transports: block.Transports, TurnsPort: block.TurnsPort,
			TurnPreferTLS:    s.TurnPreferTLS,
			CredentialSchema: issuing,
		}, hostname)
		diags = append(diags, relayDiags...)
		if relay.Secrets.Set && !relay.Server.Set {
			diags = append(diags, config.WithHint(config.Errorf(block.Range, "TURN server name is missing",
				"The block has a secret, so it is for a relay elsewhere."), `add turn_server = "turn.example.org", or remove turn_secret`))
		}
		relay.TTL = c.TTL
		c.Relays = append(c.Relays, WeightedRelay{Config: relay, Weight: block.Weight, Range: block.Range})
	}
	if total == 0 && !diags.HasErrors() {
		diags = append(diags, config.Errorf(s.Relays[0].Range, "No relay has a share", "The weights of all relay blocks are 0."))
	}
	return diags
}

// linkRelays links each relay with its own secret as one that is not in the file, and the others with relay, the file's TURN
// endpoint.
func (c *Config) linkRelays(relay *Relay) (diags hcl.Diagnostics) {
	places := make(map[string]hcl.Range)
	for i := range c.Relays {
		r := &c.Relays[i]
		endpoint := relay
		if r.Secrets.Set {
			endpoint = nil
		}
		diags = append(diags, r.Link(endpoint, r.Range)...)
		if first, twice := places[r.identity()]; twice {
			diags = append(diags, config.Errorf(r.Range, "Duplicate relay",
				"%s is also the relay of the block at %s.", r.identity(), config.Place(first)))
		}
		places[r.identity()] = r.Range
	}
	return diags
}

// LocalPorts returns the ports of the TURN endpoint of the same file that the block advertises. Call it before Link.
func (c *Config) LocalPorts() (ports []uint16) {
	if len(c.Relays) == 0 {
		return []uint16{c.Port.V, c.TLSPort.V}
	}
	for _, r := range c.Relays {
		if !r.Secrets.Set {
			ports = append(ports, r.Port.V, r.TLSPort.V)
		}
	}
	return ports
}

// PreferredPorts returns the ports of the TURN endpoint of the same file that clients are told to use for all transports, none if
// TLS is not preferred. udp is the first UDP port of that endpoint, 0 if it has none. Call it before Link.
func (c *Config) PreferredPorts(udp uint16) (ports []uint16) {
	if !c.PreferTLS.V {
		return nil
	}
	if len(c.Relays) == 0 {
		return []uint16{cmp.Or(c.TLSPort.V, c.Port.V, udp)}
	}
	for _, r := range c.Relays {
		if !r.Secrets.Set {
			ports = append(ports, cmp.Or(r.TLSPort.V, r.Port.V, udp))
		}
	}
	return ports
}

// SetSecrets sets the secrets of the TURN endpoint of the same file, which were generated after Link.
func (c *Config) SetSecrets(secrets []credential.Secret) {
	if len(c.Secrets.V) == 0 {
		c.Secrets.V = secrets
	}
	for i := range c.Relays {
		c.Relays[i].SetSecrets(secrets)
	}
}

// CheckSecret returns an error unless there is a secret for every relay.
func (c Config) CheckSecret() error {
	for _, r := range c.Relays {
		if err := r.CheckSecret(); err != nil {
			return err
		}
	}
	if len(c.Relays) == 0 && len(c.Secrets.V) == 0 {
		return errors.New("no secret to issue TURN credentials with")
	}
	return nil
}

// For returns the Config for an account: c itself or, with several relays, that of one of them. Those of a cluster that are alive
// replace those of the file.
//
// The choice is by weighted rendezvous hashing: each relay has a score for the account, from a hash of the two, and the highest
// wins. It depends on no state, so it is the same in every endpoint, on every server and after each start; and if a relay is added,
// removed or changes its weight, only the accounts move that it wins or loses. While the relay of this process drains, its accounts
// have another one, if there is one with a weight.
func (c Config) For(account string) Config { return c.ForClient(account, netip.Addr{}) }

// ForClient is For for a client whose address is known: a relay of a cluster is then near it.
func (c Config) ForClient(account string, client netip.Addr) Config {
	account = c.Names.Account(account)
	if live, ok := c.forLive(account, client); ok {
		return live
	}
	if len(c.Relays) == 0 {
		return c
	}
	best, highest := 0, math.Inf(-1)
	diverts := c.Diverts()
	for i, r := range c.Relays {
		if diverts && !r.elsewhere() {
			continue
		}
		if score := r.score(account); score > highest {
			best, highest = i, score
		}
	}
	return c.relay(best)
}

// Diverts reports whether For chooses among the relays elsewhere only, because the relay of this process drains.
func (c Config) Diverts() bool {
	return c.drains() &&
		slices.ContainsFunc(c.Relays, func(r WeightedRelay) bool { return r.elsewhere() && r.Weight > 0 })
}

// drains reports whether the relay of this process drains.
func (c Config) drains() bool { return c.Draining != nil && c.Draining.Load() }

// elsewhere reports whether the relay is not the TURN endpoint of the file.
func (r WeightedRelay) elsewhere() bool { return r.Secrets.Set }

// All returns the Config of every relay: c itself or, with several relays, one for each. Those of a cluster that are alive replace
// those of the file.
func (c Config) All() (all []Config) {
	if all := c.allLive(); len(all) > 0 {
		return all
	}
	if len(c.Relays) == 0 {
		return []Config{c}
	}
	for i := range c.Relays {
		all = append(all, c.relay(i))
	}
	return all
}

// relay returns the Config of a relay block.
func (c Config) relay(i int) Config {
	relay := c.Relays[i].Config
	relay.Accounts, relay.Names, relay.Draining, relay.Ring = c.Accounts, c.Names, c.Draining, c.Ring
	return relay
}

// score returns the relay's score for an account.
func (r WeightedRelay) score(account string) float64 { return score(r.identity(), r.Weight, account) }

// score returns the score of a relay for an account: the weight divided by an exponentially distributed variable, so that the
// probability of the highest score is proportional to the weight.
func score(identity string, weight int, account string) float64 {
	hash := sha256.Sum256([]byte(identity + "\n" + strings.ToLower(account)))
	uniform := (float64(binary.BigEndian.Uint64(hash[:])>>11) + 0.5) / (1 << 53) // between 0 and 1, and neither of them
	return -float64(weight) / math.Log(uniform)
}

// identity identifies the relay, in the choice for an account too: a relay may change its secret and keep its accounts.
func (c Config) identity() string { return identity(c.Server.V, c.Port.V) }

func identity(server string, port uint16) string {
	return net.JoinHostPort(strings.ToLower(server), strconv.Itoa(int(port)))
}
