package issuer

import (
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Default ports of an external relay, RFC 8656 section 3.1.
const (
	defaultPort    = 3478
	defaultTLSPort = 5349
)

// refreshBefore is the remaining validity of a credential at which Delta Chat asks for another one.
const refreshBefore = 12 * time.Hour

// CredentialSchema are the attributes of an endpoint that issues only user names and passwords. The endpoint's schema embeds it.
type CredentialSchema struct {
	TurnSecret config.Value[[]credential.Secret] `hcl:"turn_secret" secret:"true" otherwise:"the TURN endpoint's secret" doc:"Secret shared with the relay, from which passwords are derived: a string, file(PATH), env(NAME), or a list of them; the first one issues."`
	TurnTTL    config.Value[time.Duration]       `hcl:"turn_ttl" default:"120h" doc:"How long a credential is valid, or up to a tenth less: accounts are told apart by the second in which their credentials expire. Delta Chat asks for a new one when fewer than 12 hours are left, but a phone that gets no mail does not ask, so use several days."`
}

// Schema are the attributes of an endpoint that also says where the relay is. The endpoint's schema embeds it.
type Schema struct {
	TurnServer config.Value[string]   `hcl:"turn_server" otherwise:"hostname" doc:"Host in the answer: a name, which may have several addresses, or an IPv4 address. An IPv6 address is refused, because clients split the answer at its first colon."`
	TurnPort   config.Value[int]      `hcl:"turn_port" min:"1" max:"65535" otherwise:"the TURN endpoint's UDP port, else 3478" doc:"Port of plain TURN, as in /shared/vendor/deltachat/turn."`
	Transports config.Value[[]string] `hcl:"turn_transports" otherwise:"those on which the TURN endpoint listens; \"udp\" and \"tcp\" for a relay elsewhere" doc:"Transports of plain TURN that clients are told: \"udp\", \"tcp\" or both. Delta Chat uses only UDP."`
	TurnsPort  config.Value[int]      `hcl:"turns_port" min:"0" max:"65535" otherwise:"the TURN endpoint's TLS port, else 5349" doc:"Port of TURN over TLS, as in /shared/vendor/deltachat/turns. 0 for a relay without TLS."`
	CredentialSchema
	TurnPreferTLS config.Value[bool] `hcl:"turn_prefer_tls" default:"false" doc:"Put the TLS port into both answers, for networks that allow only that port. The relay must also answer plain TURN on it. A TURN endpoint in the same file that has a certificate but no tls:// address listens for TLS on the UDP port that clients are told."`

	Relays []RelaySchema `hcl:"relay,block" doc:"One of several relays, instead of turn_server, turn_port, turn_transports, turns_port and turn_secret. Each account is always told the same one, chosen by a hash of its name: a new relay takes its share of accounts from all others, and no other account moves."`
}

// RelaySchema is the body of a relay block.
type RelaySchema struct {
	config.Block
	TurnServer config.Value[string]              `hcl:"turn_server" otherwise:"hostname, for the TURN endpoint of this file" doc:"Host of this relay in the answer: a name or an IPv4 address."`
	TurnPort   config.Value[int]                 `hcl:"turn_port" min:"1" max:"65535" otherwise:"3478, or the TURN endpoint's UDP port" doc:"Its port of plain TURN."`
	Transports config.Value[[]string]            `hcl:"turn_transports" otherwise:"\"udp\" and \"tcp\", or those of the TURN endpoint" doc:"Its transports of plain TURN that clients are told."`
	TurnsPort  config.Value[int]                 `hcl:"turns_port" min:"0" max:"65535" otherwise:"5349, or the TURN endpoint's TLS port" doc:"Its port of TURN over TLS; 0 for a relay without TLS."`
	TurnSecret config.Value[[]credential.Secret] `hcl:"turn_secret" secret:"true" doc:"Secret shared with this relay, in the same forms as turn_secret outside the block. With a secret, the block is for a relay outside this file, mailturn or another server; without one, for the TURN endpoint of this file."`
	Weight     int                               `hcl:"weight" default:"1" min:"0" max:"1000" doc:"Share of the accounts, relative to the other weights. With 0, no account is told this relay. Before you remove it, leave it at 0 for turn_ttl, until the credentials issued for it have expired."`
}

// Decode checks what is possible without the TURN endpoint. Link has to be called next. s was decoded from door. hostname is the
// default of turn_server, empty if the file has none.
func Decode(door config.Endpoint, s Schema, hostname string) (Config, hcl.Diagnostics) {
	c, diags := decodeSingle(s, hostname)
	c.Given = door.Set(Schema{})
	return c, append(diags, c.decodeRelays(s, hostname)...)
}

// decodeSingle is Decode without relay blocks.
func decodeSingle(s Schema, hostname string) (Config, hcl.Diagnostics) {
	c, diags := DecodeCredential(s.CredentialSchema)
	c.Server, c.PreferTLS, c.Transports = s.TurnServer, s.TurnPreferTLS, s.Transports
	diags = append(diags, checkTransports(s.Transports)...)
	if !s.TurnServer.Set {
		c.Server.V = hostname
	} else if diag := CheckServer(s.TurnServer); diag != nil {
		diags = append(diags, diag)
	}
	var diag *hcl.Diagnostic
	if c.Port, diag = checkPort("turn_port", s.TurnPort); diag != nil {
		diags = append(diags, diag)
	}
	if c.TLSPort, diag = checkPort("turns_port", s.TurnsPort); diag != nil {
		diags = append(diags, diag)
	}
	return c, diags
}

// DecodeCredential is Decode for an endpoint that does not say where the relay is. LinkSecrets has to be called next.
func DecodeCredential(s CredentialSchema) (c Config, diags hcl.Diagnostics) {
	c.Secrets, c.TTL = s.TurnSecret, s.TurnTTL
	diags = append(diags, CheckSecrets(s.TurnSecret)...)
	if c.TTL.V < time.Second {
		diags = append(diags, config.Errorf(c.TTL.Range, "Credentials would expire at once", "turn_ttl is %v: want more than 12h, such as 120h.", c.TTL.V))
	}
	return c, diags
}

// ShortLived reports whether Delta Chat may ask for another credential each time it checks.
func (c *Config) ShortLived() bool {
	return credential.Issuer{TTL: c.TTL.V}.ShortestTTL() <= refreshBefore
}

// CheckRefresh warns about a lifetime that is too short for Delta Chat. It is for the endpoints that Delta Chat asks.
func (c *Config) CheckRefresh() hcl.Diagnostics {
	if c.TTL.V < time.Second || !c.ShortLived() {
		return nil
	}
	return hcl.Diagnostics{config.WithHint(config.Warnf(c.TTL.Range, "Credentials are short-lived",
		"turn_ttl is %v, and for some accounts a tenth less: Delta Chat asks for a new one when 12h or less are left, so it would ask each time its loop runs, and a quiet phone would call with an expired one.", c.TTL.V),
		"use several days; the default is 120h")}
}

// CheckServer returns why clients cannot use the host, or nil.
func CheckServer(v config.Value[string]) *hcl.Diagnostic {
	host := v.V
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		switch {
		case addr.Is6():
			return config.WithHint(config.Errorf(v.Range, "Server is an IPv6 address",
				"%q: clients split host:port:user:password at the first colon, and could not parse the answer.", host),
				"use a name that has an AAAA record")
		case strings.ContainsAny(host, "[]"):
			return config.WithHint(config.Errorf(v.Range, "Server is in brackets",
				"%q: clients would look it up as a name and find nothing.", host), "write "+addr.String())
		}
		return nil
	}
	switch {
	case host == "":
		return config.Errorf(v.Range, "Server is empty", "Want a host name or an IPv4 address.")
	case strings.Contains(host, "://"):
		return config.WithHint(config.Errorf(v.Range, "Server is a URL", "%q: want a host name or an IPv4 address.", host),
			"use the host alone")
	case strings.Contains(host, ":"):
		return config.WithHint(config.Errorf(v.Range, "Server has a colon in it",
			"%q: want a host name or an IPv4 address, without a port.", host), "set the port with turn_port")
	case strings.TrimRight(host, "0123456789.") == "":
		return config.Errorf(v.Range, "Server is neither a name nor an IPv4 address", "%q: want four numbers from 0 to 255, or a host name.", host)
	case !isHostname(host):
		return config.WithHint(config.Errorf(v.Range, "Server is not a host name",
			"%q: want letters, digits and hyphens between dots (RFC 1123 section 2.1).", host),
			"write an internationalized name in its xn-- form")
	}
	return nil
}

// checkTransports checks that all values are transports of plain TURN.
func checkTransports(v config.Value[[]string]) (diags hcl.Diagnostics) {
	if v.V != nil && len(v.V) == 0 { // nil: it is not set, or could not be decoded, which has been said
		return hcl.Diagnostics{config.WithHint(config.Errorf(v.Range, "No transport", "The list is empty."), "omit the attribute to use its default")}
	}
	for i, transport := range v.V {
		if transport != "udp" && transport != "tcp" {
			diags = append(diags, config.WithHint(config.Errorf(v.At(i), "Not a transport of plain TURN",
				`%q: want "udp", "tcp" or both.`, transport), "turns_port is for TLS"))
		}
	}
	return diags
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

// checkPort warns about an unusable port. 0 means no port.
func checkPort(name string, v config.Value[int]) (config.Value[uint16], *hcl.Diagnostic) {
	port := config.Value[uint16]{V: uint16(v.V), Set: v.Set, Range: v.Range}
	if v.V > 0 && v.V < 1024 && v.V != 53 && v.V != 80 && v.V != 443 {
		return port, config.WithHint(config.Warnf(v.Range, "Clients do not use this port",
			"%s is %d: libwebrtc, which clients use for calls, allows the ports 53, 80, 443, and 1024 and above.", name, v.V),
			"use 3478, 5349 or 443")
	}
	return port, nil
}

// CheckSecrets refuses secrets with which the relay would be open to everybody, and warns about weak ones.
func CheckSecrets(v config.Value[[]credential.Secret]) (diags hcl.Diagnostics) {
	const hint = "make one with: openssl rand -base64 32"
	if v.V != nil && len(v.V) == 0 { // nil: it is not set, or could not be decoded, which has been said
		return hcl.Diagnostics{config.WithHint(config.Errorf(v.Range, "No secret", "The list is empty."), "omit the attribute to use its default")}
	}
	for i, secret := range v.V {
		for _, weakness := range credential.Assess(secret) {
			diag := config.Warnf(v.At(i), "Secret is weak", "%s.", weakness.Reason)
			if weakness.Fatal {
				diag = config.Errorf(v.At(i), "Secret is not secret", "%s.", weakness.Reason)
			}
			diags = append(diags, config.WithHint(diag, hint))
		}
	}
	return diags
}
