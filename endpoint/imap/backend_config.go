package imap

import (
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/imap/embedded"
	"github.com/mailturn/mailturn/endpoint/imap/upstream"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
)

func (c *Config) decodeBackend(s *Schema) (diags hcl.Diagnostics) {
	switch {
	case s.Upstream != nil && s.Embedded != nil:
		return hcl.Diagnostics{config.WithHint(config.Errorf(s.Embedded.Range, "Two IMAP servers for one endpoint",
			"The upstream block at %s configures another one; clients can be served from only one.", config.Place(s.Upstream.Range)),
			"remove one of the two blocks")}
	case s.Upstream != nil:
		c.Upstream, diags = upstream.Decode(s.Upstream)
		return append(diags, c.checkUpstream(s.Upstream)...)
	case s.Embedded != nil:
		c.Users, diags = embedded.Decode(s.Embedded)
	}
	if len(c.Users) == 0 && !diags.HasErrors() {
		rng := c.Range
		if s.Embedded != nil {
			rng = s.Embedded.Range
		}
		diags = append(diags, config.WithHint(config.Warnf(rng, "Nobody can log in",
			"The embedded IMAP server has no users."),
			`add embedded { users = { "NAME" = "PASSWORD" } }, or upstream { address = "tcp://127.0.0.1:1143" } for an existing IMAP server`))
	}
	return diags
}

// checkUpstream checks the upstream against the rest of the endpoint.
func (c *Config) checkUpstream(s *upstream.Schema) (diags hcl.Diagnostics) {
	if c.Upstream == nil {
		return nil
	}
	for i, address := range c.Upstream.Addresses {
		diags = append(diags, c.checkLoop(c.Upstream.AddressRanges[i], address)...)
	}
	if all := time.Duration(len(c.Upstream.Addresses)) * c.Upstream.ConnectTimeout; all >= c.LoginTimeout && c.LoginTimeout > 0 {
		rng := s.Address.Range
		if s.ConnectTimeout.Set {
			rng = s.ConnectTimeout.Range
		}
		diags = append(diags, config.WithHint(config.Warnf(rng, "Connecting may take longer than a client has to log in",
			"%d x connect_timeout is %v, and login_timeout is %v.", len(c.Upstream.Addresses), all, c.LoginTimeout), "shorten connect_timeout"))
	}
	return diags
}

// checkLoop refuses an upstream that is the endpoint itself.
func (c *Config) checkLoop(rng hcl.Range, address upstream.Address) (diags hcl.Diagnostics) {
	for i, addr := range c.Listen {
		if address.Scheme != "unix" && isSelf(addr, address.Address) {
			diags = append(diags, config.WithHint(config.Errorf(rng, "Upstream is this endpoint itself",
				"%s reaches this endpoint (%s at %s), which would connect to itself in a loop.", address, addr, config.Place(c.ListenRanges[i])),
				"move the IMAP server to another port, such as 1143 on 127.0.0.1, and set that"))
		}
	}
	return diags
}

// isSelf reports whether connecting to target reaches a socket that listens on addr, as far as can be told without DNS lookups.
func isSelf(addr listen.Addr, target string) bool {
	host, port, err := net.SplitHostPort(target)
	if err != nil || port != strconv.Itoa(int(addr.Port)) {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == addr.Host || addr.Unspecified() && (host == "localhost" || err == nil && ip.IsLoopback())
}
