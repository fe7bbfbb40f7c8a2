package issuer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// A Relay is the TURN endpoint of the same file, as far as what clients are told has to agree with it. The ports include
// those that it opens because a door advertises them.
type Relay struct {
	Name     string // of the endpoint
	Range    hcl.Range
	Hostname string // default of turn_server

	UDPPorts, TLSPorts []uint16

	// Secrets are those that it accepts, the issuing one first. Empty stands for one that is generated later; the
	// caller then puts it into Config.Secrets.V before it makes the door.
	Secrets []credential.Secret
	// SecretRange is where they stand, or the zero Range.
	SecretRange hcl.Range
	// MaxLifetime is how long it lets credentials be good for at most, 0 for no limit.
	MaxLifetime time.Duration
}

func (r *Relay) place() string {
	return fmt.Sprintf("endpoint turn %q at %s", r.Name, place(r.Range))
}

// place is how a diagnostic names another place in the files.
func place(rng hcl.Range) string {
	return rng.Filename + ":" + strconv.Itoa(rng.Start.Line)
}

// Link fills in what the block leaves out from the TURN endpoint of the same file, nil if there is none, and says where
// the two disagree: clients would be sent to a port on which nobody listens, or with a password that is refused. A
// diagnostic about what is missing points at block, or at turn_server when that is set.
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
		diags = append(diags, config.WithHint(config.Errorf(block, "Name of the TURN server is missing",
			"Clients have to be told a host, and the file has no hostname."), `add turn_server = "turn.example.org"`))
	}
	return diags
}

// linkExternal completes what is told of a relay that is not in this file.
func (c *Config) linkExternal() hcl.Diagnostics {
	if !c.Port.Set {
		c.Port.V = defaultPort
	}
	if !c.TLSPort.Set {
		c.TLSPort.V = defaultTLSPort
	}
	if c.PreferTLS.V && c.TLSPort.V == 0 {
		return hcl.Diagnostics{config.WithHint(config.Errorf(c.TLSPort.Range, "TLS is preferred and not there",
			"turns_port is 0, which stands for a relay without TLS."), "name the port, or remove turn_prefer_tls")}
	}
	return nil
}

// linkRelay completes what is told of the relay in this file.
func (c *Config) linkRelay(relay *Relay) hcl.Diagnostics {
	where := relay.place()
	if !c.Server.Set && relay.Hostname != "" {
		c.Server.V = relay.Hostname
	}
	if !c.Port.Set {
		c.Port.V = defaultPort
		if len(relay.UDPPorts) > 0 {
			c.Port.V = relay.UDPPorts[0]
		}
	}
	c.linkTLSPort(relay)
	if c.PreferTLS.V {
		return c.checkPreferTLS(relay, where)
	}
	return c.checkPorts(relay, where)
}

// linkTLSPort chooses the port of TURN over TLS when the block does not.
func (c *Config) linkTLSPort(relay *Relay) {
	if c.TLSPort.Set || len(relay.TLSPorts) == 0 {
		return
	}
	c.TLSPort.V = relay.TLSPorts[0]
	if !c.PreferTLS.V {
		return
	}
	// Clients that read only the plain entry use UDP on the port of both: take one that answers everything.
	if c.Port.Set && slices.Contains(relay.TLSPorts, c.Port.V) && slices.Contains(relay.UDPPorts, c.Port.V) {
		c.TLSPort.V = c.Port.V
		return
	}
	for _, port := range relay.TLSPorts {
		if slices.Contains(relay.UDPPorts, port) {
			c.TLSPort.V = port
			return
		}
	}
}

func (c *Config) checkPorts(relay *Relay, where string) (diags hcl.Diagnostics) {
	if !slices.Contains(relay.UDPPorts, c.Port.V) {
		rng := relay.Range
		if c.Port.Set {
			rng = c.Port.Range
		}
		diags = append(diags, config.WithHint(config.Errorf(rng, "Nothing listens on the advertised port",
			"Clients would be told UDP port %d, and %s listens on %s.", c.Port.V, where, portList("UDP", relay.UDPPorts)),
			fmt.Sprintf("add udp://0.0.0.0:%d to the addresses of the TURN endpoint, or change turn_port", c.Port.V)))
	}
	if c.TLSPort.V != 0 && c.TLSPort.Set && !slices.Contains(relay.TLSPorts, c.TLSPort.V) {
		diags = append(diags, config.WithHint(config.Errorf(c.TLSPort.Range, "Nothing listens on the advertised TLS port",
			"Clients would be told TLS port %d, and %s listens on %s.", c.TLSPort.V, where, portList("TLS", relay.TLSPorts)),
			fmt.Sprintf("add tls://0.0.0.0:%d to the addresses of the TURN endpoint, or remove turns_port", c.TLSPort.V)))
	}
	return diags
}

func (c *Config) checkPreferTLS(relay *Relay, where string) hcl.Diagnostics {
	switch {
	case len(relay.TLSPorts) == 0:
		return hcl.Diagnostics{config.WithHint(config.Errorf(c.PreferTLS.Range, "TLS is preferred and not there",
			"The %s has no TLS: no tls:// address, or no certificate for it.", where),
			"give the TURN endpoint a tls block and a tls:// address, or remove turn_prefer_tls")}
	case !slices.Contains(relay.TLSPorts, c.TLSPort.V):
		return hcl.Diagnostics{config.WithHint(config.Errorf(c.TLSPort.Range, "Nothing listens on the advertised TLS port",
			"Clients would be told TLS port %d, and %s listens on %s.", c.TLSPort.V, where, portList("TLS", relay.TLSPorts)),
			fmt.Sprintf("add tls://0.0.0.0:%d to the addresses of the TURN endpoint, or remove turns_port", c.TLSPort.V))}
	case !slices.Contains(relay.UDPPorts, c.TLSPort.V):
		return hcl.Diagnostics{config.WithHint(config.Errorf(c.PreferTLS.Range, "Preferred port does not answer plain TURN",
			"Both entries would carry port %d, which clients that know only the plain entry use over UDP; %s listens on %s.",
			c.TLSPort.V, where, portList("UDP", relay.UDPPorts)),
			fmt.Sprintf("add udp://0.0.0.0:%d to the addresses of the TURN endpoint, or remove turn_prefer_tls", c.TLSPort.V))}
	}
	return nil
}

// LinkSecrets is Link for a door that does not say where the relay is.
func (c *Config) LinkSecrets(relay *Relay, block hcl.Range) hcl.Diagnostics {
	if relay != nil && relay.MaxLifetime > 0 && c.TTL.V > relay.MaxLifetime {
		rng := block
		if c.TTL.Set {
			rng = c.TTL.Range
		}
		return hcl.Diagnostics{config.WithHint(config.Errorf(rng, "Relay does not accept this lifetime",
			"Credentials would be good for %v, and be refused: %s accepts %v at most.", c.TTL.V, relay.place(), relay.MaxLifetime),
			"shorten turn_ttl, or raise max_credential_lifetime in the TURN endpoint")}
	}
	switch {
	case relay == nil && !c.Secrets.Set:
		return hcl.Diagnostics{config.WithHint(config.Errorf(block, "Secret of the relay is missing",
			"There is no TURN endpoint in this file, so the relay is another one, and its passwords are computed from a secret shared with it."),
			`add turn_secret = file("/etc/mailturn/turn.secret"), the same as coturn's static-auth-secret; or add an endpoint "turn"`)}
	case relay == nil:
		return nil
	case !c.Secrets.Set:
		c.Secrets.V = relay.Secrets
		return nil
	case len(c.Secrets.V) == 0: // it could not be decoded, which has been said
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
		where += ", secret at " + place(relay.SecretRange)
	}
	return hcl.Diagnostics{config.WithHint(config.Errorf(c.Secrets.At(0), "Relay does not accept this secret",
		"Credentials would be issued under another secret than the relay's (%s), and be refused.", where),
		"remove turn_secret: that of the TURN endpoint is used")}
}

func portList(transport string, ports []uint16) string {
	if len(ports) == 0 {
		return "no " + transport + " port"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s port ", transport)
	for i, port := range ports {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d", port)
	}
	return b.String()
}
