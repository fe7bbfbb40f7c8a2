package http

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/http/page"
	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/handoff"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Schema is the body of an endpoint "http" block. `mailturn reference` prints the documentation in its tags.
type Schema struct {
	Listen         config.Value[[]listen.Addr]  `hcl:"listen" default:"http://127.0.0.1:8080" reload:"restart" doc:"Listening addresses: https://HOST:PORT, for which tls://HOST:PORT is another name, or http://HOST:PORT behind a proxy that terminates TLS."`
	TLS            []config.TLS                 `hcl:"tls,block" doc:"Certificates for https://. With several, the client's server name chooses; the first is for clients that send none. Default: the top-level certificate, else that of the TURN endpoint, else a self-signed one."`
	TrustedProxies config.Value[[]netip.Prefix] `hcl:"trusted_proxies" doc:"Networks of reverse proxies. For requests from there, limits, metrics_from and the log use the client address in X-Forwarded-For; from anywhere else, that header is ignored. Include a proxy on this machine, such as 127.0.0.1/32: otherwise all of its clients share one rate, and the log says so once."`

	APIKeys      config.Value[[]credential.Secret] `hcl:"api_keys" secret:"true" doc:"API keys: a string, file(PATH), env(NAME), or a list of them. A request for credentials must carry one, as Authorization: Bearer KEY or in the parameter key. Without keys, and with nothing in open, /turn and /ice are not served."`
	Open         config.Value[[]string]            `hcl:"open" otherwise:"none" doc:"Which of \"/turn\" and \"/ice\" require no key. Anyone who can reach them can use the relay, up to its quotas."`
	AllowOrigins config.Value[[]string]            `hcl:"allow_origins" otherwise:"none" doc:"Origins of web pages whose scripts may read credentials (CORS), such as \"https://app.example.org\"; \"*\" for all."`

	PagePassword config.Value[credential.Secret] `hcl:"page_password" secret:"true" doc:"Serves a web page on /, with the state of the server and a call test that runs in the visitor's browser, to whoever knows the password of this hash: bcrypt ($2b$...) or argon2id ($argon2id$...), a string, file(PATH) or env(NAME). mailturn hash-password makes one. Changing it ends all sessions and invalidates links to the call test. Default: no page."`

	Settings

	issuer.Schema
}

// Settings are the attributes that need only a declaration here, and the code that uses them.
type Settings struct {
	MetricsFrom listen.Networks `hcl:"metrics_from" default:"127.0.0.0/8 ::1/128" doc:"Networks that may read /metrics, without a key. Requests that visibly came through a proxy missing from trusted_proxies are refused: those with X-Forwarded-For, Forwarded, Via or the like, and those over HTTP/1.0, which nginx uses by default. /healthz and /readyz reveal nothing and are open to everybody."`
	// The maximum keeps the time between two tokens above the resolution of clocks.
	Rate           int `hcl:"rate" default:"600" min:"0" max:"60000000" doc:"Requests for credentials per minute from one address (IPv6: /64), granted or not, all of which may come at once; 0 is no limit. Beyond it: 429 Too Many Requests."`
	MaxConnections int `hcl:"max_connections" default:"1000" min:"1" doc:"Maximum number of connections, of which one address (IPv6: /64) may have 100 unless it is a trusted proxy. Further ones are closed at once."`
}

// Config is an endpoint "http" block as plain values.
type Config struct {
	Name  string
	Range hcl.Range // of the block's header

	Listen       []listen.Addr // of the schemes http and https
	ListenRanges []hcl.Range   // the place of each, or of the block's header
	// Sockets are the listening sockets that another process has passed, and are passed on. The caller puts them here, or nil.
	Sockets *handoff.Sockets
	// Shared are the ports that other endpoints use, too. The caller sets it.
	Shared shared.Ports
	// TLS are the certificates, the first for clients that name none. If it is empty and NeedsCertificate returns true, the caller
	// puts a self-signed one here before New.
	TLS            []certs.Pair
	TrustedProxies listen.Networks

	APIKeys      []credential.Secret
	Open         []string          // paths that give credentials without a key
	AllowOrigins []string          // in the form in which browsers send them, or "*"
	PagePassword credential.Secret // the hash of the page's password; the zero Secret if there is no page
	Settings

	TURN issuer.Config // if Issues
}

// Defaults are values of the file for attributes that an endpoint leaves out.
type Defaults struct {
	Hostname string       // empty when the file has none
	TLS      []certs.Pair // the top level's certificate, else the TURN endpoint's
}

// Decode checks the block and returns its plain values. It opens no socket; it reads the certificates. What the block
// leaves out about the relay is filled in by Config.TURN.Link, which has to be called next if Config.Issues.
func Decode(endpoint config.Endpoint, defaults Defaults) (Config, hcl.Diagnostics) {
	var s Schema
	diags := endpoint.Decode(&s)
	c := Config{
		Name: endpoint.Name, Range: endpoint.Range,
		APIKeys: s.APIKeys.V, Open: s.Open.V, AllowOrigins: s.AllowOrigins.V,
		PagePassword: s.PagePassword.V, Settings: s.Settings,
	}
	turn, turnDiags := issuer.Decode(endpoint, s.Schema, defaults.Hostname)
	c.TURN, diags = turn, append(diags, turnDiags...)
	diags = append(diags, c.decodeListen(s.Listen)...)
	diags = append(diags, c.decodeTLS(s.TLS, defaults.TLS)...)
	proxies, proxyDiags := listen.DecodeProxies(s.TrustedProxies)
	c.TrustedProxies, diags = proxies, append(diags, proxyDiags...)
	diags = append(diags, c.checkAccess(&s)...)
	diags = append(diags, checkOrigins(s.AllowOrigins)...)
	diags = append(diags, checkPassword(s.PagePassword)...)
	diags = append(diags, c.checkProxy()...)
	return c, diags
}

// NeedsCertificate reports whether the endpoint listens with TLS and has no certificate.
func (c *Config) NeedsCertificate() bool { return len(c.TLS) == 0 && c.listensEncrypted() }

// listensEncrypted reports whether there is an https:// address.
func (c *Config) listensEncrypted() bool {
	return slices.ContainsFunc(c.Listen, func(a listen.Addr) bool { return a.Scheme == "https" })
}

// Issues reports whether the endpoint issues credentials. Otherwise it serves only /metrics, /healthz and /readyz, and TURN is not
// used.
func (c *Config) Issues() bool { return c.servesCredentials() || !c.PagePassword.IsZero() }

// servesCredentials reports whether there are /turn and /ice.
func (c *Config) servesCredentials() bool { return len(c.APIKeys) > 0 || len(c.Open) > 0 }

func (c *Config) decodeListen(v config.Value[[]listen.Addr]) (diags hcl.Diagnostics) {
	c.Listen, c.ListenRanges, diags = listen.Schemes{
		Protocol: "HTTP", Names: []string{"https", "http", "tls"}, Meaning: "https, or http",
	}.Decode(v, c.Range)
	for i := range c.Listen {
		if c.Listen[i].Scheme == "tls" {
			c.Listen[i].Scheme = "https"
		}
	}
	for i, addr := range c.Listen {
		if addr.Scheme == "http" && !addr.Loopback() {
			diags = append(diags, config.WithHint(config.Warnf(c.ListenRanges[i], "Credentials travel in the clear",
				"%s has no TLS and is not on loopback: anyone on the path can read API keys and credentials.", addr),
				"use https://"+addr.HostPort()+", or listen on an address that only your proxy reaches"))
		}
	}
	return diags
}

func (c *Config) decodeTLS(blocks []config.TLS, defaults []certs.Pair) (diags hcl.Diagnostics) {
	c.TLS, diags = certs.DecodeAll(blocks, defaults)
	if c.NeedsCertificate() && !diags.HasErrors() {
		diags = append(diags, config.WithHint(config.Warnf(c.Range, "No certificate",
			"Neither this endpoint nor the file has a tls block: a self-signed certificate is used, which browsers refuse."),
			"add a tls block with cert and key on separate lines, or with an acme block"))
	}
	return diags
}

// checkAccess checks that keys are hard to guess, and warns if everybody can get credentials, or by mistake nobody.
func (c *Config) checkAccess(s *Schema) (diags hcl.Diagnostics) {
	for i, key := range s.APIKeys.V {
		switch {
		case len(key.Bytes()) < credential.MinSecretLen:
			diags = append(diags, config.WithHint(config.Errorf(s.APIKeys.At(i), "API key is too short",
				"It has %d bytes: want %d or more.", len(key.Bytes()), credential.MinSecretLen), "make one with: openssl rand -hex 32"))
		case len(key.Bytes()) > maxKey:
			diags = append(diags, config.Errorf(s.APIKeys.At(i), "API key is too long", "It has %d bytes: want %d or fewer.", len(key.Bytes()), maxKey))
		}
	}
	for i, path := range s.Open.V {
		if path != turnPath && path != icePath {
			diags = append(diags, config.WithHint(config.Errorf(s.Open.At(i), "Not a path that requires a key",
				"%q: open may contain %s, %s or both.", path, turnPath, icePath), "see metrics_from for /metrics; /healthz and /readyz require no key"))
			continue
		}
		diags = append(diags, config.WithHint(config.Warnf(s.Open.At(i), "Everybody gets credentials",
			"%s requires no API key: anyone who can reach it can use the relay.", path), "set source_quota and max_bps in the TURN endpoint"))
	}
	if !s.APIKeys.Set && !s.Open.Set && !s.PagePassword.Set && len(c.TURN.Given) > 0 {
		diags = append(diags, config.WithHint(config.Warnf(c.Range, "Nobody gets credentials",
			"The block configures credentials but no API key: %s and %s are not served.", turnPath, icePath),
			`add api_keys = file("/etc/mailturn/api.key"), made with: openssl rand -hex 32`))
	}
	return diags
}

// checkProxy warns about an endpoint for web pages that only this machine can reach and that trusts no proxy, because browsers must
// connect through one.
func (c *Config) checkProxy() hcl.Diagnostics {
	remote := func(a listen.Addr) bool { return !a.Loopback() }
	if len(c.Open)+len(c.AllowOrigins) == 0 || len(c.TrustedProxies) > 0 || len(c.Listen) == 0 || slices.ContainsFunc(c.Listen, remote) {
		return nil
	}
	return hcl.Diagnostics{config.WithHint(config.Warnf(c.ListenRanges[0], "Proxy is not trusted",
		"Web pages reach loopback only through a proxy on this machine, and without trusted_proxies all of its clients share one rate."),
		`add trusted_proxies = ["127.0.0.1/32", "::1/128"]`)}
}

// checkOrigins checks that origins have the form that browsers send (RFC 6454 section 6.2).
func checkOrigins(v config.Value[[]string]) (diags hcl.Diagnostics) {
	for i, origin := range v.V {
		if origin == "*" {
			continue
		}
		u, err := url.Parse(origin)
		switch {
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
			diags = append(diags, config.Errorf(v.At(i), "Not an origin", `%q: want "https://HOST", "https://HOST:PORT" or "*".`, origin))
		case origin != canonicalOrigin(u):
			diags = append(diags, config.WithHint(config.Errorf(v.At(i), "Origin is not in the form that browsers send",
				"%q: it would match no request.", origin), "write "+canonicalOrigin(u)))
		}
	}
	return diags
}

// checkPassword wants a hash: the file may be read by others than the operator, in a backup for one.
func checkPassword(v config.Value[credential.Secret]) hcl.Diagnostics {
	if !v.Set {
		return nil
	}
	if _, err := page.ParseHash(string(v.V.Bytes())); err != nil {
		return hcl.Diagnostics{config.WithHint(config.Errorf(v.Range, "Page password is not a hash", "%s.", err),
			"make one with mailturn hash-password")}
	}
	return nil
}

func canonicalOrigin(u *url.URL) string {
	host := strings.ToLower(u.Host)
	host = strings.TrimSuffix(host, map[string]string{"https": ":443", "http": ":80"}[u.Scheme])
	return u.Scheme + "://" + host
}
