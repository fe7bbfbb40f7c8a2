package imap

import (
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/config"
)

// TURN is what clients are told about the relay. LinkTURN fills in what the file leaves out.
type TURN struct {
	Enable config.Value[bool]
	issuer.Config
	WakeIdle config.Value[bool] // wake clients whose credential has to be replaced
}

// decodeTURN checks what can be checked without the TURN endpoint.
func (c *Config) decodeTURN(endpoint config.Endpoint, s *Schema, hostname string) hcl.Diagnostics {
	advertised, diags := issuer.Decode(endpoint, s.Schema, hostname)
	c.TURN = TURN{s.TurnEnable, advertised, s.TurnWakeIdle}
	diags = append(diags, c.TURN.checkWakeIdle()...)
	return append(diags, c.TURN.CheckRefresh()...)
}

// checkWakeIdle refuses lifetimes with which clients would be woken again as soon as they have a credential.
func (t *TURN) checkWakeIdle() hcl.Diagnostics {
	if !t.WakeIdle.V || !t.ShortLived() {
		return nil
	}
	return hcl.Diagnostics{config.WithHint(config.Errorf(t.WakeIdle.Range, "Clients would be woken constantly",
		"turn_ttl is %v, and for some accounts a tenth less; credentials are replaced when 12h or less are left.", t.TTL.V),
		"use several days (the default is 120h), or remove turn_wake_idle")}
}

// LinkTURN decides whether clients are told about a relay, and fills in what the block leaves out from the TURN endpoint of the
// same file, nil if there is none: see issuer.Config.Link.
func (c *Config) LinkTURN(relay *issuer.Relay) hcl.Diagnostics {
	t := &c.TURN
	if !t.Enable.Set {
		t.Enable.V = relay != nil || t.Server.Set || len(t.Relays) > 0
	}
	if !t.Enable.V {
		return c.unusedTURN()
	}
	place := c.Range
	if t.Enable.Set {
		place = t.Enable.Range
	}
	diags := t.Link(relay, place)
	return append(diags, t.CheckUDP(place)...)
}

// unusedTURN warns about settings that have no effect because nothing is advertised.
func (c *Config) unusedTURN() (diags hcl.Diagnostics) {
	if c.TURN.Enable.Set {
		return nil // disabled explicitly, and the settings are kept for when it is enabled again
	}
	given := c.TURN.Given
	if c.TURN.WakeIdle.Set {
		given = append(slices.Clone(given), config.Set{Name: "turn_wake_idle", Range: c.TURN.WakeIdle.Range})
	}
	for _, attribute := range given {
		diags = append(diags, config.WithHint(config.Warnf(attribute.Range, "Attribute has no effect",
			"%s is set, but the file has neither a TURN endpoint nor a turn_server.", attribute.Name), "add turn_server"))
	}
	return diags
}
