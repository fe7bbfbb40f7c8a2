package issuer

import (
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// A Relay is the part of the TURN endpoint of the same file with which the information for clients has to agree. The ports include
// those that it opens because another endpoint advertises them.
type Relay struct {
	Name     string // of the endpoint
	Range    hcl.Range
	Hostname string // default of turn_server

	UDPPorts, TCPPorts, TLSPorts []uint16

	// Secrets are those that it accepts, the issuing one first. If it is empty, a secret is generated later, which the caller puts
	// into Config.Secrets.V before it creates the endpoint.
	Secrets []credential.Secret
	// SecretRange is their place, or the zero Range.
	SecretRange hcl.Range
	// FixedSecrets is set if it accepts Secrets only, and none of a credential.Ring.
	FixedSecrets bool
	// MaxLifetime is the longest validity of a credential that it accepts, 0 for no limit.
	MaxLifetime time.Duration
}

func (r *Relay) place() string {
	return fmt.Sprintf("endpoint turn %q at %s", r.Name, config.Place(r.Range))
}

// Link fills in what the block leaves out from the TURN endpoint of the same file, nil if there is none, and reports where the two
// disagree: clients would be sent to a port on which nothing listens, or with a password that is refused. A diagnostic about what
// is missing points at block, or at turn_server when that is set.
func (c *Config) Link(relay *Relay, block hcl.Range) (diags hcl.Diagnostics) {
	if len(c.Relays) > 0 {
		return c.linkRelays(relay)
	}
	if c.Server.Set {
		block = c.Server.Range
	}
	if relay == nil {
		diags = c.linkExternal()
	} else {
		diags = c.linkRelay(relay)
	}
	diags = append(diags, c.LinkSecrets(relay, block)...)
	if c.Server.V == "" && !c.Server.Set {
		diags = append(diags, config.WithHint(config.Errorf(block, "TURN server name is missing",
			"Clients must be told a host, but the file sets no hostname."), `add turn_server = "turn.example.org"`))
	}
	return diags
}

// LinkSecrets is Link for an endpoint that does not say where the relay is.
func (c *Config) LinkSecrets(relay *Relay, block hcl.Range) hcl.Diagnostics {
	c.linked = relay != nil && !relay.FixedSecrets
	if relay != nil && relay.MaxLifetime > 0 && c.TTL.V > relay.MaxLifetime {
		rng := block
		if c.TTL.Set {
			rng = c.TTL.Range
		}
		return hcl.Diagnostics{config.WithHint(config.Errorf(rng, "Relay does not accept this lifetime",
			"Credentials would be valid for %v and therefore refused: %s accepts at most %v.", c.TTL.V, relay.place(), relay.MaxLifetime),
			"shorten turn_ttl, or raise max_credential_lifetime in the TURN endpoint")}
	}
	switch {
	case relay == nil && !c.Secrets.Set:
		return hcl.Diagnostics{config.WithHint(config.Errorf(block, "Relay secret is missing",
			"This file has no TURN endpoint, so the relay is elsewhere, and passwords are derived from a secret shared with it."),
			`add turn_secret = file("/etc/mailturn/turn.secret"), the same as coturn's static-auth-secret; or add an endpoint "turn"`)}
	case relay == nil:
		return nil
	case !c.Secrets.Set:
		c.Secrets.V = relay.Secrets
		return nil
	case len(c.Secrets.V) == 0: // it could not be decoded, which has been reported
		return nil
	}
	issuing := c.Secrets.V[0].Bytes()
	for _, accepted := range relay.Secrets {
		if slices.Equal(accepted.Bytes(), issuing) {
			return nil
		}
	}
	where := relay.place()
	if relay.SecretRange != (hcl.Range{}) {
		where += ", secret at " + config.Place(relay.SecretRange)
	}
	return hcl.Diagnostics{config.WithHint(config.Errorf(c.Secrets.At(0), "Relay does not accept this secret",
		"Credentials would be issued with a different secret than the relay's (%s), and refused.", where),
		"remove turn_secret: the TURN endpoint's is used")}
}
