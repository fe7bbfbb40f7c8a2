package imap

import (
	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/config"
)

// TURN is what clients are told of the relay, if they are. LinkTURN fills in what the file leaves out.
type TURN struct {
	Enable config.Value[bool]
	issuer.Config
	WakeIdle config.Value[bool] // wake clients whose credential has to be replaced
}

// decodeTURN checks what can be checked without the TURN endpoint.
func (c *Config) decodeTURN(s *Schema, hostname string) hcl.Diagnostics {
	advertised, diags := issuer.Decode(s.Schema, hostname)
	c.TURN = TURN{s.TurnEnable, advertised, s.TurnWakeIdle}
	diags = append(diags, c.TURN.checkWakeIdle()...)
	return append(diags, c.TURN.CheckRefresh()...)
}

// checkWakeIdle refuses to wake clients again as soon as they have got a credential.
func (t *TURN) checkWakeIdle() hcl.Diagnostics {
	if !t.WakeIdle.V || !t.ShortLived() {
		return nil
	}
	return hcl.Diagnostics{config.WithHint(config.Errorf(t.WakeIdle.Range, "Clients would be woken constantly",
		"turn_ttl is %v, and for some accounts a tenth less; credentials are replaced when 12h or less are left.", t.TTL.V),
		"use several days (the default is 120h), or remove turn_wake_idle")}
}

// LinkTURN decides whether clients are told of a relay, and fills in what the block leaves out from the TURN endpoint of
// the same file, nil if there is none: see issuer.Config.Link.
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

// unusedTURN warns of settings that have no effect because nothing is advertised.
func (c *Config) unusedTURN() (diags hcl.Diagnostics) {
	if c.TURN.Enable.Set {
		return nil // switched off by hand, and to be switched on again with the settings that are there
	}
	for _, setting := range []struct {
		name string
		set  bool
		rng  hcl.Range
	}{
		{"turn_port", c.TURN.Port.Set, c.TURN.Port.Range},
		{"turn_transports", c.TURN.Transports.Set, c.TURN.Transports.Range},
		{"turns_port", c.TURN.TLSPort.Set, c.TURN.TLSPort.Range},
		{"turn_secret", c.TURN.Secrets.Set, c.TURN.Secrets.Range},
		{"turn_ttl", c.TURN.TTL.Set, c.TURN.TTL.Range},
		{"turn_prefer_tls", c.TURN.PreferTLS.Set, c.TURN.PreferTLS.Range},
		{"turn_wake_idle", c.TURN.WakeIdle.Set, c.TURN.WakeIdle.Range},
	} {
		if setting.set {
			diags = append(diags, config.WithHint(config.Warnf(setting.rng, "Attribute has no effect",
				"%s is set, but there is neither a TURN endpoint in the file nor a turn_server.", setting.name), "add turn_server"))
		}
	}
	return diags
}
