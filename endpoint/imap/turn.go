package imap

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Defaults of the advertisement: the ports of RFC 8656 section 3.1, and chatmail's lifetime.
const (
	defaultTURNPort    = 3478
	defaultTURNTLSPort = 5349
	defaultTTL         = 5 * 24 * time.Hour
	// refreshBefore is how much validity a credential has left when Delta Chat asks for another one.
	refreshBefore = 12 * time.Hour
)

// TURN is what clients are told of the relay. Set says whether the file has the value, Range where. LinkTURN fills in
// what the file leaves out.
type TURN struct {
	Enable    config.Value[bool]
	Server    config.Value[string] // a name or an IPv4 address
	Port      config.Value[uint16] // of plain TURN
	TLSPort   config.Value[uint16] // after LinkTURN 0 for a relay without TLS
	Secrets   config.Value[[]credential.Secret]
	TTL       config.Value[time.Duration]
	PreferTLS config.Value[bool] // both entries carry TLSPort
}

// A Relay is the TURN endpoint of the same file, as far as what clients are told has to agree with it. The ports include
// those that it opens because an IMAP endpoint advertises them.
type Relay struct {
	Name     string // of the endpoint
	Range    hcl.Range
	Hostname string // default of turn_server

	UDPPorts, TLSPorts []uint16

	// Secrets are those that it accepts, the issuing one first. Empty stands for one that is generated later; the
	// caller then puts it into Config.TURN.Secrets.V before New.
	Secrets []credential.Secret
	// SecretRange is where they stand, or the zero Range.
	SecretRange hcl.Range
}

// decodeTURN checks what can be checked without the TURN endpoint.
func (c *Config) decodeTURN(s *Schema, hostname string) (diags hcl.Diagnostics) {
	c.TURN = TURN{Enable: s.TurnEnable, Server: s.TurnServer, Secrets: s.TurnSecret, TTL: s.TurnTTL, PreferTLS: s.TurnPreferTLS}
	if !s.TurnServer.Set {
		c.TURN.Server.V = hostname
	} else if diag := checkTURNServer(s.TurnServer); diag != nil {
		diags = append(diags, diag)
	}
	var diag *hcl.Diagnostic
	if c.TURN.Port, diag = checkTURNPort("turn_port", s.TurnPort); diag != nil {
		diags = append(diags, diag)
	}
	if c.TURN.TLSPort, diag = checkTURNPort("turns_port", s.TurnsPort); diag != nil {
		diags = append(diags, diag)
	}
	if s.TurnSecret.Set {
		diags = append(diags, checkTURNSecrets(s.TurnSecret)...)
	}
	if diag := checkTTL(s.TurnTTL); diag != nil {
		diags = append(diags, diag)
	}
	return diags
}

// checkTURNServer returns why clients could not use the host, or nil.
func checkTURNServer(v config.Value[string]) *hcl.Diagnostic {
	host := v.V
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		switch {
		case addr.Is6():
			return config.WithHint(config.Errorf(v.Range, "Server is an IPv6 address",
				"%q: clients split host:port:user:password at the first colon and could not read the answer.", host),
				"use a name that has an AAAA record")
		case strings.ContainsAny(host, "[]"):
			return config.WithHint(config.Errorf(v.Range, "Server is in brackets",
				"%q: clients look it up as a name, and find nothing.", host), "write "+addr.String())
		}
		return nil
	}
	switch {
	case host == "":
		return config.Errorf(v.Range, "Server is empty", "Want a host name or an IPv4 address.")
	case strings.Contains(host, "://"):
		return config.WithHint(config.Errorf(v.Range, "Server is a URL", "%q: want a host name or an IPv4 address.", host),
			"write the host alone")
	case strings.Contains(host, ":"):
		return config.WithHint(config.Errorf(v.Range, "Server has a colon in it",
			"%q: want a host name or an IPv4 address, without a port.", host), "put the port into turn_port")
	case strings.TrimRight(host, "0123456789.") == "":
		return config.Errorf(v.Range, "Server is neither a name nor an IPv4 address", "%q: want four numbers from 0 to 255, or a host name.", host)
	case !isHostname(host):
		return config.WithHint(config.Errorf(v.Range, "Server is no host name",
			"%q: want letters, digits and hyphens between dots (RFC 1123 section 2.1).", host),
			"write an internationalised name in its xn-- form")
	}
	return nil
}

func isHostname(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
				return false
			}
		}
	}
	return true
}

func checkTURNPort(name string, v config.Value[int]) (config.Value[uint16], *hcl.Diagnostic) {
	port := config.Value[uint16]{Set: v.Set, Range: v.Range}
	switch {
	case !v.Set:
		return port, nil
	case v.V < 1 || v.V > 65535:
		return port, config.Errorf(v.Range, "Port is out of range", "%s is %d: want 1 to 65535.", name, v.V)
	}
	port.V = uint16(v.V)
	if v.V < 1024 && v.V != 53 && v.V != 80 && v.V != 443 {
		return port, config.WithHint(config.Warnf(v.Range, "Clients do not use this port",
			"%s is %d: libwebrtc, which places the calls, uses the ports 53, 80, 443 and those from 1024 on.", name, v.V),
			"use 3478, 5349 or 443")
	}
	return port, nil
}

func checkTURNSecrets(v config.Value[[]credential.Secret]) (diags hcl.Diagnostics) {
	const hint = "make one with: openssl rand -base64 32"
	if len(v.V) == 0 {
		return nil // it could not be decoded, which has been said
	}
	for i, secret := range v.V {
		for _, weakness := range credential.Assess(secret) {
			diag := config.Warnf(v.At(i), "Secret is weak", "%s.", weakness.Reason)
			if weakness.Fatal {
				diag = config.Errorf(v.At(i), "Secret is no secret", "%s.", weakness.Reason)
			}
			diags = append(diags, config.WithHint(diag, hint))
		}
	}
	return diags
}

func checkTTL(v config.Value[time.Duration]) *hcl.Diagnostic {
	switch {
	case v.V < time.Second:
		return config.Errorf(v.Range, "Credentials would expire at once", "turn_ttl is %v: want more than 12h, such as 120h.", v.V)
	case v.V <= refreshBefore:
		return config.WithHint(config.Warnf(v.Range, "Credentials are short-lived",
			"turn_ttl is %v: Delta Chat asks for a new one when 12h or less are left, so it would ask on every turn of its loop, and a quiet phone would call with an expired one.", v.V),
			"use days: 120h is the default")
	}
	return nil
}

// LinkTURN fills in what the block leaves out from the TURN endpoint of the same file, nil if there is none, and says
// where the two disagree: clients would be sent to a port on which nobody listens, or with a password that is refused.
func (c *Config) LinkTURN(relay *Relay) hcl.Diagnostics {
	t := &c.TURN
	if !t.Enable.Set {
		t.Enable.V = relay != nil || t.Server.Set
	}
	if !t.Enable.V {
		return c.unusedTURN()
	}
	var diags hcl.Diagnostics
	if relay == nil {
		diags = t.linkExternal(c.Range)
	} else {
		diags = t.linkRelay(relay)
	}
	if t.Server.V == "" && !t.Server.Set {
		diags = append(diags, config.WithHint(config.Errorf(t.place(c.Range), "Name of the TURN server is missing",
			"Clients have to be told a host, and the file has no hostname."), `add turn_server = "turn.example.org"`))
	}
	return diags
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
		{"turns_port", c.TURN.TLSPort.Set, c.TURN.TLSPort.Range},
		{"turn_secret", c.TURN.Secrets.Set, c.TURN.Secrets.Range},
		{"turn_ttl", c.TURN.TTL.Set, c.TURN.TTL.Range},
		{"turn_prefer_tls", c.TURN.PreferTLS.Set, c.TURN.PreferTLS.Range},
	} {
		if setting.set {
			diags = append(diags, config.WithHint(config.Warnf(setting.rng, "Attribute has no effect",
				"%s is set, but there is neither a TURN endpoint in the file nor a turn_server.", setting.name), "add turn_server"))
		}
	}
	return diags
}

// place is where a diagnostic about the advertisement as a whole points.
func (t *TURN) place(endpoint hcl.Range) hcl.Range {
	switch {
	case t.Server.Set:
		return t.Server.Range
	case t.Enable.Set:
		return t.Enable.Range
	default:
		return endpoint
	}
}

// linkExternal completes the advertisement of a relay that is not in this file.
func (t *TURN) linkExternal(endpoint hcl.Range) (diags hcl.Diagnostics) {
	if !t.Port.Set {
		t.Port.V = defaultTURNPort
	}
	if !t.TLSPort.Set {
		t.TLSPort.V = defaultTURNTLSPort
	}
	if !t.Secrets.Set {
		diags = append(diags, config.WithHint(config.Errorf(t.place(endpoint), "Secret of the relay is missing",
			"There is no TURN endpoint in this file, so the relay is another one, and its passwords are computed from a secret shared with it."),
			`add turn_secret = file("/etc/mailturn/turn.secret"), the same as coturn's static-auth-secret; or add an endpoint "turn"`))
	}
	return diags
}

// linkRelay completes the advertisement of the relay in this file.
func (t *TURN) linkRelay(relay *Relay) (diags hcl.Diagnostics) {
	where := fmt.Sprintf("endpoint turn %q at %s", relay.Name, place(relay.Range))
	if !t.Server.Set && relay.Hostname != "" {
		t.Server.V = relay.Hostname
	}
	if !t.Port.Set {
		t.Port.V = defaultTURNPort
		if len(relay.UDPPorts) > 0 {
			t.Port.V = relay.UDPPorts[0]
		}
	}
	t.linkTLSPort(relay)
	if t.PreferTLS.V {
		diags = append(diags, t.checkPreferTLS(relay, where)...)
	} else {
		diags = append(diags, t.checkPorts(relay, where)...)
	}
	return append(diags, t.linkSecrets(relay, where)...)
}

// linkTLSPort chooses the port of TURN over TLS when the block does not.
func (t *TURN) linkTLSPort(relay *Relay) {
	if t.TLSPort.Set || len(relay.TLSPorts) == 0 {
		return
	}
	t.TLSPort.V = relay.TLSPorts[0]
	if !t.PreferTLS.V {
		return
	}
	// Clients that read only the plain entry use UDP on the port of both: take one that answers everything.
	if t.Port.Set && slices.Contains(relay.TLSPorts, t.Port.V) && slices.Contains(relay.UDPPorts, t.Port.V) {
		t.TLSPort.V = t.Port.V
		return
	}
	for _, port := range relay.TLSPorts {
		if slices.Contains(relay.UDPPorts, port) {
			t.TLSPort.V = port
			return
		}
	}
}

func (t *TURN) checkPorts(relay *Relay, where string) (diags hcl.Diagnostics) {
	if !slices.Contains(relay.UDPPorts, t.Port.V) {
		rng := relay.Range
		if t.Port.Set {
			rng = t.Port.Range
		}
		diags = append(diags, config.WithHint(config.Errorf(rng, "Nothing listens on the advertised port",
			"Clients would be told UDP port %d, and %s listens on %s.", t.Port.V, where, portList("UDP", relay.UDPPorts)),
			fmt.Sprintf("add udp://0.0.0.0:%d to the addresses of the TURN endpoint, or change turn_port", t.Port.V)))
	}
	if t.TLSPort.Set && !slices.Contains(relay.TLSPorts, t.TLSPort.V) {
		diags = append(diags, config.WithHint(config.Errorf(t.TLSPort.Range, "Nothing listens on the advertised TLS port",
			"Clients would be told TLS port %d, and %s listens on %s.", t.TLSPort.V, where, portList("TLS", relay.TLSPorts)),
			fmt.Sprintf("add tls://0.0.0.0:%d to the addresses of the TURN endpoint, or remove turns_port", t.TLSPort.V)))
	}
	return diags
}

func (t *TURN) checkPreferTLS(relay *Relay, where string) hcl.Diagnostics {
	switch {
	case len(relay.TLSPorts) == 0:
		return hcl.Diagnostics{config.WithHint(config.Errorf(t.PreferTLS.Range, "TLS is preferred and not there",
			"%s has no TLS: no tls:// address, or no certificate for it.", sentence(fmt.Errorf("%s", where))),
			"give the TURN endpoint a tls block and a tls:// address, or remove turn_prefer_tls")}
	case !slices.Contains(relay.TLSPorts, t.TLSPort.V):
		return hcl.Diagnostics{config.WithHint(config.Errorf(t.TLSPort.Range, "Nothing listens on the advertised TLS port",
			"Clients would be told TLS port %d, and %s listens on %s.", t.TLSPort.V, where, portList("TLS", relay.TLSPorts)),
			fmt.Sprintf("add tls://0.0.0.0:%d to the addresses of the TURN endpoint, or remove turns_port", t.TLSPort.V))}
	case !slices.Contains(relay.UDPPorts, t.TLSPort.V):
		return hcl.Diagnostics{config.WithHint(config.Errorf(t.PreferTLS.Range, "Preferred port does not answer plain TURN",
			"Both entries would carry port %d, which clients that know only the plain entry use over UDP; %s listens on %s.",
			t.TLSPort.V, where, portList("UDP", relay.UDPPorts)),
			fmt.Sprintf("add udp://0.0.0.0:%d to the addresses of the TURN endpoint, or remove turn_prefer_tls", t.TLSPort.V))}
	}
	return nil
}

func (t *TURN) linkSecrets(relay *Relay, where string) hcl.Diagnostics {
	if !t.Secrets.Set {
		t.Secrets.V = relay.Secrets
		return nil
	}
	if len(t.Secrets.V) == 0 {
		return nil // it could not be decoded, which has been said
	}
	issuing := t.Secrets.V[0].Bytes()
	for _, accepted := range relay.Secrets {
		if slices.Equal(accepted.Bytes(), issuing) {
			return nil
		}
	}
	if relay.SecretRange != (hcl.Range{}) {
		where += ", secret at " + place(relay.SecretRange)
	}
	return hcl.Diagnostics{config.WithHint(config.Errorf(t.Secrets.At(0), "Relay does not accept this secret",
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
