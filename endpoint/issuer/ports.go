package issuer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// linkExternal completes the settings for a relay that is not in this file.
func (c *Config) linkExternal() hcl.Diagnostics {
	if !c.Port.Set {
		c.Port.V = defaultPort
	}
	if !c.TLSPort.Set {
		c.TLSPort.V = defaultTLSPort
	}
	if c.PreferTLS.V && c.TLSPort.V == 0 {
		return hcl.Diagnostics{config.WithHint(config.Errorf(c.TLSPort.Range, "TLS is preferred but not available",
			"turns_port is 0, which means a relay without TLS."), "set the port, or remove turn_prefer_tls")}
	}
	for transport, port := range map[string]*uint16{"udp": &c.UDPPort, "tcp": &c.TCPPort} {
		if !c.Transports.Set || slices.Contains(c.Transports.V, transport) {
			*port = c.plainPort()
		}
	}
	return nil
}

// CheckUDP warns about a relay that Delta Chat cannot use. It is for the endpoints from which Delta Chat learns about the relay,
// after Link, and points at block if the endpoint does not set the transports.
func (c *Config) CheckUDP(block hcl.Range) (diags hcl.Diagnostics) {
	for _, r := range c.Relays {
		diags = append(diags, r.CheckUDP(r.Range)...)
	}
	if len(c.Relays) > 0 || c.UDPPort != 0 || len(c.Servers()) == 0 { // without any, Link has reported it
		return diags
	}
	if c.Transports.Set {
		block = c.Transports.Range
	}
	return hcl.Diagnostics{config.WithHint(config.Warnf(block, "Delta Chat cannot use the relay",
		"Clients are told no UDP port of %s, but Delta Chat uses TURN over UDP only.", c.Server.V),
		"let the TURN endpoint listen on udp://0.0.0.0:3478")}
}

// plainPort returns the port wanted for plain TURN.
func (c *Config) plainPort() uint16 {
	if c.PreferTLS.V {
		return c.TLSPort.V
	}
	return c.Port.V
}

// linkRelay completes the settings for the relay in this file with the ports on which it listens.
func (c *Config) linkRelay(relay *Relay) hcl.Diagnostics {
	if !c.Server.Set && relay.Hostname != "" {
		c.Server.V = relay.Hostname
	}
	if !c.Port.Set {
		c.Port.V = slices.Concat(relay.UDPPorts, relay.TCPPorts, []uint16{defaultPort})[0]
	}
	c.linkTLSPort(relay)
	diags := c.checkTLSPort(relay)
	if diags.HasErrors() {
		return diags
	}
	diags = append(c.linkUDPPort(relay), c.linkTCPPort(relay)...)
	if len(c.Servers()) == 0 && len(diags) == 0 {
		diags = append(diags, config.WithHint(config.Errorf(relay.Range, "Nothing listens on a port that clients use",
			"The %s has no udp://, tcp:// or tls:// address.", relay.place()),
			fmt.Sprintf("add udp://0.0.0.0:%d to them", defaultPort)))
	}
	return diags
}

// linkUDPPort sets the port of plain TURN over UDP, unless clients are not told about UDP.
func (c *Config) linkUDPPort(relay *Relay) hcl.Diagnostics {
	if c.Transports.Set && !slices.Contains(c.Transports.V, "udp") || !c.Transports.Set && len(relay.UDPPorts) == 0 {
		return nil
	}
	c.UDPPort = c.plainPort()
	switch {
	case slices.Contains(relay.UDPPorts, c.UDPPort):
		return nil
	case c.PreferTLS.V:
		return hcl.Diagnostics{config.WithHint(config.Errorf(c.PreferTLS.Range, "Preferred port does not answer plain TURN",
			"Both entries would contain port %d, which clients that know only the plain entry use over UDP; %s listens on %s.",
			c.UDPPort, relay.place(), portList("UDP", relay.UDPPorts)),
			fmt.Sprintf("add udp://0.0.0.0:%d to the addresses of the TURN endpoint, or remove turn_prefer_tls", c.UDPPort))}
	}
	return c.nothingListens("UDP", c.UDPPort, relay, relay.UDPPorts)
}

// linkTCPPort sets the port of plain TURN over TCP, that of UDP if possible, unless clients are not told about TCP.
func (c *Config) linkTCPPort(relay *Relay) hcl.Diagnostics {
	told := c.Transports.Set && slices.Contains(c.Transports.V, "tcp")
	if c.Transports.Set && !told || !c.Transports.Set && len(relay.TCPPorts) == 0 {
		return nil
	}
	wanted := c.plainPort()
	switch {
	case slices.Contains(relay.TCPPorts, wanted):
		c.TCPPort = wanted
	case len(relay.TCPPorts) == 0, c.Port.Set && (told || c.UDPPort == 0):
		return c.nothingListens("TCP", wanted, relay, relay.TCPPorts)
	default:
		c.TCPPort = relay.TCPPorts[0]
	}
	return nil
}

// nothingListens returns the error that clients would be sent to a closed port.
func (c *Config) nothingListens(transport string, port uint16, relay *Relay, ports []uint16) hcl.Diagnostics {
	rng, hint := relay.Range, "change turn_port"
	switch {
	case c.Port.Set:
		rng = c.Port.Range
	case c.Transports.Set:
		rng, hint = c.Transports.Range, "change turn_transports"
	}
	return hcl.Diagnostics{config.WithHint(config.Errorf(rng, "Nothing listens on the advertised port",
		"Clients would be told %s port %d, and %s listens on %s.", transport, port, relay.place(), portList(transport, ports)),
		fmt.Sprintf("add %s://0.0.0.0:%d to the addresses of the TURN endpoint, or %s", strings.ToLower(transport), port, hint))}
}

// linkTLSPort chooses the port of TURN over TLS if the block does not.
func (c *Config) linkTLSPort(relay *Relay) {
	if c.TLSPort.Set || len(relay.TLSPorts) == 0 {
		return
	}
	c.TLSPort.V = relay.TLSPorts[0]
	if !c.PreferTLS.V {
		return
	}
	// Clients that read only the plain entry use UDP on the port of both: choose one that serves everything.
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

// checkTLSPort checks that the relay serves TURN over TLS where clients are told to use it.
func (c *Config) checkTLSPort(relay *Relay) hcl.Diagnostics {
	switch {
	case c.PreferTLS.V && len(relay.TLSPorts) == 0:
		return hcl.Diagnostics{config.WithHint(config.Errorf(c.PreferTLS.Range, "TLS is preferred but not available",
			"The %s has no TLS: no tls:// address, or no certificate for it.", relay.place()),
			"give the TURN endpoint a tls block and a tls:// address, or remove turn_prefer_tls")}
	case c.TLSPort.V != 0 && !slices.Contains(relay.TLSPorts, c.TLSPort.V):
		return hcl.Diagnostics{config.WithHint(config.Errorf(c.TLSPort.Range, "Nothing listens on the advertised TLS port",
			"Clients would be told TLS port %d, and %s listens on %s.", c.TLSPort.V, relay.place(), portList("TLS", relay.TLSPorts)),
			fmt.Sprintf("add tls://0.0.0.0:%d to the addresses of the TURN endpoint, or remove turns_port", c.TLSPort.V))}
	}
	return nil
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
