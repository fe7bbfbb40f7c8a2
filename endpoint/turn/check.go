package turn

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv"
)

// maxRealm is the limit for a realm in bytes. RFC 8489 section 14.9 allows fewer than 128 characters, in up to 763 bytes; the limit
// is lower because the realm is part of every unauthenticated answer, which must not be much larger than the request.
const maxRealm = 127

// NeedsCertificate reports whether the endpoint listens with TLS or DTLS and has no certificate.
func (c *Config) NeedsCertificate() bool { return len(c.TLS) == 0 && c.listensEncrypted() }

func (c *Config) listensEncrypted() bool { return len(c.Ports("tls", "dtls")) > 0 }

// decodeListen sets the listening addresses, or the defaults.
func (c *Config) decodeListen(v config.Value[[]listen.Addr]) (diags hcl.Diagnostics) {
	c.ListenSet = v.Set
	if !v.Set {
		c.listenOn(DefaultPort, "udp", "tcp")
		if len(c.TLS) > 0 {
			c.listenOn(DefaultTLSPort, "tls", "dtls")
		}
		return nil
	}
	c.Listen, c.ListenRanges, diags = listen.Schemes{
		Protocol: "TURN", Names: []string{"udp", "tcp", "tls", "dtls"}, Meaning: "udp, tcp, tls or dtls", Share: true,
	}.Decode(v, c.Range)
	if c.NeedsCertificate() && !diags.HasErrors() {
		diags = append(diags, config.WithHint(config.Warnf(v.Range, "No certificate",
			"Neither this endpoint nor the file has a tls block: a self-signed certificate is used, which clients of TURN over TLS or DTLS refuse."),
			"add a tls block with cert and key on separate lines, or with an acme block"))
	}
	return diags
}

// ListenAlso adds an advertised port to the default addresses, on every transport. It does nothing if the operator has set the
// addresses.
func (c *Config) ListenAlso(port uint16) {
	if c.ListenSet || port == 0 {
		return
	}
	c.listenOn(port, "udp", "tcp")
	if len(c.TLS) > 0 {
		c.listenOn(port, "tls", "dtls")
	}
}

// ListenTLS adds TLS on a UDP port, at the same addresses, for clients that are told only about that port. It does nothing if there
// is already an address with TLS, or no certificate.
func (c *Config) ListenTLS(port uint16) {
	if len(c.TLS) == 0 || len(c.Ports("tls")) > 0 {
		return
	}
	for i, a := range slices.Clone(c.Listen) {
		if a.Scheme == "udp" && a.Port == port {
			a.Scheme = "tls"
			c.Listen, c.ListenRanges = append(c.Listen, a), append(c.ListenRanges, c.ListenRanges[i])
		}
	}
}

// listenOn adds a port on every address of the machine, unless it exists.
func (c *Config) listenOn(port uint16, schemes ...string) {
	for _, scheme := range schemes {
		if scheme == "dtls" && c.Engine == Pion {
			continue
		}
		if a := (listen.Addr{Scheme: scheme, Port: port}); !slices.Contains(c.Listen, a) {
			c.Listen, c.ListenRanges = append(c.Listen, a), append(c.ListenRanges, c.Range)
		}
	}
}

// Ports returns the ports on which the endpoint listens with one of these schemes, in the order of the addresses.
func (c *Config) Ports(schemes ...string) []uint16 {
	var ports []uint16
	for _, a := range c.Listen {
		if slices.Contains(schemes, a.Scheme) && !slices.Contains(ports, a.Port) {
			ports = append(ports, a.Port)
		}
	}
	return ports
}

// StreamSockets returns how many sockets the endpoint listens on for TCP and TLS connections.
func (c *Config) StreamSockets() (n int) {
	for _, s := range c.sockets() {
		if network, _ := carrier(s.Address.Scheme); network == "tcp" {
			n++
		}
	}
	return n
}

// CheckPorts finds UDP listening ports inside the range of the relay's ports: a relayed transport address there would collide with
// the endpoint's own socket. Call it after all ports have been added.
func (c *Config) CheckPorts() hcl.Diagnostics {
	var diags hcl.Diagnostics
	relay, rng := c.RelayPorts.V, c.RelayPorts.Range
	if !c.RelayPorts.Set {
		rng = c.Range
	}
	for _, port := range c.Ports("udp", "dtls") {
		if relay.Min <= port && port <= relay.Max {
			diags = append(diags, config.WithHint(config.Errorf(rng, "Relay ports contain a listening port",
				"UDP port %d, on which this endpoint listens, lies inside relay_ports %v.", port, relay), "choose a range that excludes it"))
		}
	}
	return diags
}

func checkRealm(v config.Value[string]) hcl.Diagnostics {
	rng := v.Range
	switch {
	case v.V == "":
		return hcl.Diagnostics{config.WithHint(config.Errorf(rng, "Realm is empty", "Clients derive their key from the realm, so it is required."),
			"set realm to your domain, or set hostname at the top of the file.")}
	case len(v.V) > maxRealm:
		return hcl.Diagnostics{config.Errorf(rng, "Realm is too long", "It has %d bytes, at most %d are accepted; your domain is enough.", len(v.V), maxRealm)}
	case strings.ContainsFunc(v.V, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r == 0x7f }):
		return hcl.Diagnostics{config.Errorf(rng, "Invalid character in realm", "%q contains a control character, a quotation mark or a backslash (RFC 8489 section 14.9).", v.V)}
	}
	return nil
}

// checkRelayAddrs checks that there is at most one address of each family, each usable by a socket or a peer.
func checkRelayAddrs(v config.Value[[]netip.Addr], name string) hcl.Diagnostics {
	var diags hcl.Diagnostics
	var v4, v6 int
	for _, a := range v.V {
		switch {
		case a.IsUnspecified() && name == "relay_ip":
			diags = append(diags, config.WithHint(config.Errorf(v.Range, "Not a relay address", "relay_ip %s means every address; peers need one that they can send to.", a),
				"set the public address of this machine, or omit relay_ip."))
		case a.IsMulticast() || a.Zone() != "" || a.Is4In6():
			diags = append(diags, config.Errorf(v.Range, "Not a relay address", "%s %s: want a plain unicast IPv4 or IPv6 address.", name, a))
		case a.Is4():
			v4++
		default:
			v6++
		}
	}
	if v4 > 1 || v6 > 1 {
		diags = append(diags, config.Errorf(v.Range, "Too many addresses", "%s may contain one IPv4 and one IPv6 address; it contains %d and %d.", name, v4, v6))
	}
	return diags
}

// checkLifetimes checks that lifetimes are long enough for calls, and limited.
func checkLifetimes(maximum, nonce config.Value[time.Duration]) hcl.Diagnostics {
	var diags hcl.Diagnostics
	if d := maximum.V; d < turnsrv.DefaultLifetime {
		diags = append(diags, config.Warnf(maximum.Range, "Lifetime is short",
			"max_lifetime is %v, and so is the lifetime for clients that ask for none: RFC 8656 section 3.2 recommends 10m. Clients refresh more often.", d))
	}
	switch d := nonce.V; {
	case d < 10*time.Second:
		diags = append(diags, config.Errorf(nonce.Range, "Nonce expires too soon",
			"nonce_lifetime is %v: a client on a slow link would never have a valid one; want 10s or more.", d))
	case d > time.Hour:
		diags = append(diags, config.Warnf(nonce.Range, "Nonce lifetime is long",
			"nonce_lifetime is %v: RFC 8656 section 5 asks for a new one at least every hour.", d))
	}
	return diags
}

// checkCredentialLifetime checks that the lifetime of credentials is limited.
func checkCredentialLifetime(v config.Value[time.Duration]) hcl.Diagnostics {
	if v.V == 0 {
		return hcl.Diagnostics{config.WithHint(config.Warnf(v.Range, "Credentials may be valid forever",
			"Without a limit, whoever steals a credential that expires in the year 9999 can use it until then."),
			"remove max_credential_lifetime for its default, 366 days")}
	}
	return nil
}

// checkSoftware checks that there are fewer than 128 characters, RFC 8489 section 14.14.
func checkSoftware(v config.Value[string]) hcl.Diagnostics {
	if len(v.V) > 127 {
		return hcl.Diagnostics{config.Errorf(v.Range, "Software is too long", "It has %d bytes, at most 127 are accepted.", len(v.V))}
	}
	return nil
}
