package imap

import (
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/imap/embedded"
	"github.com/mailturn/mailturn/endpoint/imap/upstream"
	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/systemd"
	"github.com/mailturn/mailturn/imapext/metadata"
)

// networkFactor is the default of max_unauthenticated_network, in max_unauthenticated.
const networkFactor = 10

// minIdleTimeout is RFC 9051 section 5.4's.
const minIdleTimeout = 30 * time.Minute

const maxEntryValueLen = 64 * 1024

// Schema is the body of an endpoint "imap" block. `mailturn reference` prints the documentation in its tags.
type Schema struct {
	// The ports are those of IMAP over TLS from the start, and with STARTTLS (RFC 8314 section 3.2, RFC 9051 section 2.1).
	Listen        config.Value[[]listen.Addr]  `hcl:"listen" default:"tls://0.0.0.0:993 tcp://0.0.0.0:143" doc:"Listening addresses: tls://HOST:PORT for TLS from the first byte, tcp://HOST:PORT for plain connections, which are offered STARTTLS."`
	TLS           []config.TLS                 `hcl:"tls,block" doc:"Certificates. With several, the client's server name chooses; the first is for clients that send none. Default: the top-level certificate, else that of the TURN endpoint, else a self-signed one."`
	ProxyProtocol config.Value[[]netip.Prefix] `hcl:"proxy_protocol" doc:"Networks of proxies whose connections begin with a PROXY protocol header, version 1 or 2. Limits and logs use the client address in it; connections from there without a header are closed. From anywhere else, no header is accepted."`
	Access

	Upstream *upstream.Schema `hcl:"upstream,block" doc:"The existing IMAP server. Everything except METADATA passes between it and the clients unchanged."`
	Embedded *embedded.Schema `hcl:"embedded,block" doc:"An IMAP server inside mailturn instead, with mailboxes in memory only: for trying things out, or for clients that need nothing but METADATA."`

	Entries config.Value[map[string]string] `hcl:"entries" doc:"Further server annotations (RFC 5464), name = value, such as \"/shared/comment\" and \"/shared/admin\". Clients can read them but not change them."`

	TurnEnable config.Value[bool] `hcl:"turn_enable" otherwise:"true when a TURN endpoint or turn_server is configured" doc:"Answer /shared/vendor/deltachat/turn and /shared/vendor/deltachat/turns. This does not affect other entries."`
	issuer.Schema
	TurnWakeIdle config.Value[bool] `hcl:"turn_wake_idle" default:"false" doc:"Wake a client in IDLE when its credential has 12 hours left, by repeating its number of messages: Delta Chat then asks for a new one. Otherwise a phone that gets no mail for days calls with an expired credential."`

	Limits
}

// Access and Limits are the attributes that need only a declaration here, and the code that uses them.
type Access struct {
	InsecureAuth bool `hcl:"insecure_auth" default:"false" doc:"Allow login without TLS. Otherwise a plain connection announces LOGINDISABLED until STARTTLS. Connections from loopback may always log in unless they came through a proxy."`
	Compress     bool `hcl:"compress" default:"true" doc:"Offer COMPRESS=DEFLATE (RFC 4978) after login, whether or not the IMAP server does. Clients transfer less; mailturn compresses and decompresses, which costs CPU time."`
}

// Limits bound the resources of clients.
type Limits struct {
	MaxConnections            int                         `hcl:"max_connections" default:"10000" min:"1" doc:"Maximum number of connections. Further clients are sent BYE."`
	MaxUnauthenticated        int                         `hcl:"max_unauthenticated" default:"100" min:"1" doc:"Maximum number of connections from one address (IPv6: /64) that have not logged in. Further clients are sent BYE."`
	MaxUnauthenticatedNetwork config.Value[int]           `hcl:"max_unauthenticated_network" otherwise:"10 x max_unauthenticated" min:"1" doc:"The same for one network (IPv4: /24, IPv6: /48)."`
	LoginTimeout              time.Duration               `hcl:"login_timeout" default:"60s" min:"1s" doc:"How long a connection may take to log in, including the TLS handshake."`
	UpgradeTimeout            time.Duration               `hcl:"upgrade_timeout" default:"5m" min:"0s" doc:"How long connections may continue after an upgrade, for which another process takes over the port. They are ended with BYE one after the other, at regular intervals, so that clients do not all log in again at once."`
	IdleTimeout               config.Value[time.Duration] `hcl:"idle_timeout" default:"31m" doc:"How long a logged-in connection may go without progress, even in IDLE: neither side sends anything or accepts any of what is being sent to it. At least 30 minutes (RFC 9051 section 5.4)."`
}

// Config is an endpoint "imap" block as plain values.
type Config struct {
	Name  string
	Range hcl.Range // of the block's header

	Listen       []listen.Addr // of the schemes tls and tcp
	ListenRanges []hcl.Range   // the place of each, or of the block's header
	// Sockets opens them; nil for sockets of this process alone.
	Sockets *systemd.Listeners
	// Shared are the ports that other endpoints use, too. The caller sets it.
	Shared shared.Ports
	// TLS are the certificates, the first for clients that name none. If it is empty, the caller puts a self-signed one here before
	// New.
	TLS           []certs.Pair
	ProxyProtocol listen.Networks // networks of proxies whose connections begin with a PROXY header
	Access

	Upstream *upstream.Config // nil for the embedded server
	Users    embedded.Users   // of the embedded server

	Entries []metadata.Entry // sorted by name
	TURN    TURN

	Limits
}

// Defaults are values of the file for attributes that an endpoint leaves out.
type Defaults struct {
	Hostname string       // empty when the file has none
	TLS      []certs.Pair // the top level's certificate, else the TURN endpoint's
}

// Decode checks the block and returns its plain values. It opens no socket; it reads the certificates and the users file.
// The TURN settings that the block leaves out are filled in by LinkTURN, which has to be called next.
func Decode(endpoint config.Endpoint, defaults Defaults) (Config, hcl.Diagnostics) {
	var s Schema
	diags := endpoint.Decode(&s)
	if !s.MaxUnauthenticatedNetwork.Set {
		s.MaxUnauthenticatedNetwork.V = networkFactor * s.MaxUnauthenticated
	}
	c := Config{Name: endpoint.Name, Range: endpoint.Range, Access: s.Access, Limits: s.Limits}
	diags = append(diags, c.decodeListen(s.Listen)...)
	diags = append(diags, c.decodeTLS(s.TLS, defaults.TLS)...)
	proxies, proxyDiags := listen.DecodeProxies(s.ProxyProtocol)
	c.ProxyProtocol, diags = proxies, append(diags, proxyDiags...)
	diags = append(diags, c.decodeBackend(&s)...)
	diags = append(diags, c.decodeEntries(s.Entries)...)
	var users config.Value[map[string]string]
	if s.Embedded != nil {
		users = s.Embedded.Users
	}
	diags = append(diags, c.checkDemo(users, s.Entries)...)
	diags = append(diags, c.decodeTURN(endpoint, &s, defaults.Hostname)...)
	diags = append(diags, s.checkLimits()...)
	return c, diags
}

func (c *Config) decodeListen(v config.Value[[]listen.Addr]) (diags hcl.Diagnostics) {
	c.Listen, c.ListenRanges, diags = listen.Schemes{
		Protocol: "IMAP", Names: []string{"tls", "tcp"}, Meaning: "tls (TLS from the first byte) or tcp (STARTTLS)",
	}.Decode(v, c.Range)
	return diags
}

func (c *Config) decodeTLS(blocks []config.TLS, defaults []certs.Pair) (diags hcl.Diagnostics) {
	c.TLS, diags = certs.DecodeAll(blocks, defaults)
	if len(c.TLS) == 0 && !diags.HasErrors() {
		diags = append(diags, config.WithHint(config.Warnf(c.Range, "No certificate",
			"Neither this endpoint nor the file has a tls block: a self-signed certificate is used, which mail clients refuse."),
			"add a tls block with cert and key on separate lines, or with an acme block"))
	}
	return diags
}

func (c *Config) decodeEntries(v config.Value[map[string]string]) (diags hcl.Diagnostics) {
	seen := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(v.V)) {
		value, lower := v.V[name], strings.ToLower(name)
		if diag := checkEntry(v.Range, name, value); diag != nil {
			diags = append(diags, diag)
			if diag.Severity == hcl.DiagError {
				continue
			}
		}
		if other, twice := seen[lower]; twice {
			diags = append(diags, config.Errorf(v.Range, "Duplicate entry",
				"%q and %q are the same: case does not matter in entry names (RFC 5464 section 3.2).", other, name))
			continue
		}
		seen[lower] = name
		c.Entries = append(c.Entries, metadata.Entry{Name: lower, Value: metadata.String(value)})
	}
	return diags
}

// checkEntry returns the error of a configured entry, or nil.
func checkEntry(rng hcl.Range, name, value string) *hcl.Diagnostic {
	lower := strings.ToLower(name)
	if err := metadata.CheckName(name); err != nil {
		return config.WithHint(config.Errorf(rng, "Entry name is invalid", "%q: %v (RFC 5464 section 3.2).", name, err),
			"names look like /shared/comment or /shared/vendor/NAME/SOMETHING")
	}
	switch {
	case strings.HasPrefix(lower, "/private/"):
		return config.WithHint(config.Errorf(rng, "Entry is private",
			"%q would belong to one user, but entries here are for all users.", name), "begin the name with /shared/")
	case lower == TURNEntry || lower == TURNSEntry:
		return config.WithHint(config.Errorf(rng, "Entry is set by the turn_ attributes",
			"%q cannot be set here: its value is an expiring credential.", name), "use turn_server, turn_port and turn_secret")
	case len(value) > maxEntryValueLen:
		return config.Errorf(rng, "Entry value is too long", "%q has %d bytes: want %d or fewer.", name, len(value), maxEntryValueLen)
	case strings.ContainsRune(value, 0):
		return config.Errorf(rng, "Entry value contains a NUL byte", "%q: IMAP has no way to send it.", name)
	case !utf8.ValidString(value):
		return config.Errorf(rng, "Entry value is not UTF-8", "%q: Delta Chat drops the connection at such a value.", name)
	case lower == "/shared/admin" && !isURI(value):
		return config.WithHint(config.Warnf(rng, "Server contact is not a URI",
			"%q is %q, but RFC 5464 section 6.2.1.2 requires a URI.", name, value), "write mailto:"+strings.TrimSpace(value))
	case !strings.HasPrefix(lower, "/shared/vendor/") && lower != "/shared/comment" && lower != "/shared/admin":
		return config.WithHint(config.Warnf(rng, "Entry is unknown to Delta Chat",
			"%q: Delta Chat cannot parse the answer, and ends the session.", name),
			"use /shared/comment, /shared/admin, or a name below /shared/vendor/")
	}
	return nil
}

func isURI(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && len(s) > len(u.Scheme)+1
}

func (l *Limits) checkLimits() (diags hcl.Diagnostics) {
	if network := l.MaxUnauthenticatedNetwork; network.Set && network.V >= 1 && network.V < l.MaxUnauthenticated {
		diags = append(diags, config.Warnf(network.Range, "Network limit is below the address limit",
			"max_unauthenticated_network is %d, so max_unauthenticated, %d, is never reached.", network.V, l.MaxUnauthenticated))
	}
	if l.IdleTimeout.V < minIdleTimeout {
		diags = append(diags, config.Errorf(l.IdleTimeout.Range, "Idle timeout is too short",
			"idle_timeout is %v: want 30m or more (RFC 9051 section 5.4); clients renew IDLE every 29 minutes.", l.IdleTimeout.V))
	}
	return diags
}
