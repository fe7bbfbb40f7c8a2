package shared

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/systemd"
)

// Config is a shared port as plain values.
type Config struct {
	Listen      listen.Addr // of the scheme tls
	ListenRange hcl.Range
	// Endpoints are those that share the port, in words.
	Endpoints []string
	// Fallback is the HOST:PORT for connections that are not for an endpoint, "" if there is none.
	Fallback string
	// ProxyVersion is the version of the PROXY protocol for the fallback, 0 for none.
	ProxyVersion byte
	// Proxies are the networks of proxies whose connections begin with a PROXY header.
	Proxies listen.Networks
	// MaxConnections is the limit for connections to the fallback.
	MaxConnections int
	// Sockets opens the socket; nil for a socket of this process alone. The caller sets it.
	Sockets *systemd.Listeners
}

// Serves reports whether addr, of an endpoint, is the address of the port. The scheme does not count.
func (c *Config) Serves(addr listen.Addr) bool {
	return (addr.Scheme == "tls" || addr.Scheme == "https" || addr.Scheme == "tcp") && addr.Port != 0 && c.Listen.SameSocket(addr)
}

// User is a listening address of an endpoint.
type User struct {
	Protocol Protocol
	Name     string // of the endpoint
	Addr     listen.Addr
	Range    hcl.Range    // its place
	Pairs    []certs.Pair // none if a self-signed certificate will be made
	// Foreign is true if the endpoint serves its sockets in another process, and can share none.
	Foreign bool
}

func (u User) String() string { return fmt.Sprintf("endpoint %s %q", u.Protocol, u.Name) }

// encrypted reports whether the address is for TLS over TCP.
func (u User) encrypted() bool { return u.Addr.Scheme == "tls" || u.Addr.Scheme == "https" }

// Decode returns the ports that the blocks name or that several of users have in common, and checks them. It opens no socket.
func Decode(blocks []config.SharedPort, users []User) (all []Config, diags hcl.Diagnostics) {
	for _, block := range blocks {
		c, ok, blockDiags := decodeBlock(block)
		if diags = append(diags, blockDiags...); !ok {
			continue
		}
		if again := slices.IndexFunc(all, func(other Config) bool { return other.Listen.SameSocket(c.Listen) }); again >= 0 {
			diags = append(diags, config.WithHint(config.Errorf(block.Range, "Port has two blocks",
				"The block of %v at %v is for the same port.", all[again].Listen, all[again].ListenRange), "remove one of them"))
			continue
		}
		all = append(all, c)
	}
	for i, u := range users {
		known := slices.ContainsFunc(all, func(c Config) bool { return c.Serves(u.Addr) })
		if !known && u.encrypted() && slices.ContainsFunc(users[:i], func(other User) bool { return shares(u, other) }) {
			all = append(all, Config{Listen: withTLS(u.Addr), ListenRange: u.Range})
		}
	}
	for i := range all {
		diags = append(diags, all[i].join(users)...)
		diags = append(diags, all[i].checkFallback(blocks, all)...)
	}
	return all, diags
}

// shares reports whether two endpoints have one address for TLS.
func shares(a, b User) bool {
	return b.encrypted() && (a.Protocol != b.Protocol || a.Name != b.Name) && a.Addr.Port != 0 && a.Addr.SameSocket(b.Addr)
}

func withTLS(addr listen.Addr) listen.Addr {
	addr.Scheme = "tls"
	return addr
}

// decodeBlock checks what a block says by itself. It returns false if the address is not one.
func decodeBlock(block config.SharedPort) (c Config, ok bool, diags hcl.Diagnostics) {
	c = Config{ListenRange: block.Listen.Range, MaxConnections: block.MaxConnections.V}
	if err := c.Listen.UnmarshalText([]byte(block.Listen.V)); err != nil {
		return c, false, hcl.Diagnostics{config.Errorf(block.Listen.Range, "Not a listening address", "%q: %v.", block.Listen.V, err)}
	}
	if c.Listen.Scheme == "https" {
		c.Listen.Scheme = "tls"
	}
	if c.Listen.Scheme != "tls" || c.Listen.Port == 0 {
		return c, false, hcl.Diagnostics{config.WithHint(config.Errorf(block.Listen.Range, "Not an address for TLS",
			"%v: only connections that begin with TLS can share a port.", c.Listen), `write "tls://0.0.0.0:443"`)}
	}
	c.Proxies, diags = listen.DecodeProxies(block.ProxyProtocol)
	version, known := map[string]byte{"none": 0, "proxy": 1, "proxy2": 2}[block.ClientAddress.V]
	if c.ProxyVersion = version; !known {
		diags = append(diags, config.Errorf(block.ClientAddress.Range, "Invalid client_address",
			"client_address is %q: want none, proxy or proxy2.", block.ClientAddress.V))
	}
	if !block.Fallback.Set && version != 0 {
		diags = append(diags, config.WithHint(config.Errorf(block.ClientAddress.Range, "No fallback",
			"client_address requires a fallback."), `add fallback = "tcp://127.0.0.1:8443"`))
	}
	if block.Fallback.Set {
		if c.Fallback, known = fallbackOf(block.Fallback.V); !known {
			diags = append(diags, config.WithHint(config.Errorf(block.Fallback.Range, "Not the address of a server",
				"fallback is %q: want tcp://HOST:PORT.", block.Fallback.V), `write "tcp://127.0.0.1:8443"`))
		}
	}
	return c, true, diags
}

// fallbackOf returns HOST:PORT of an address to connect to.
func fallbackOf(text string) (hostPort string, ok bool) {
	var addr listen.Addr
	if err := addr.UnmarshalText([]byte(text)); err != nil || addr.Scheme != "tcp" || addr.Port == 0 || addr.Unspecified() {
		return "", false
	}
	return addr.HostPort(), true
}

// join adds the endpoints of the port, and checks that they can be told apart.
func (c *Config) join(users []User) (diags hcl.Diagnostics) {
	var members []User
	for _, u := range users {
		if !c.Serves(u.Addr) {
			continue
		}
		switch {
		case u.Foreign:
			diags = append(diags, config.WithHint(config.Errorf(u.Range, "Endpoint cannot share a port",
				"The engine of %v, pion, runs in a process of its own.", u), "give it another port, or remove engine"))
		case !u.encrypted() && !(u.Protocol == TURN && slices.ContainsFunc(users, func(other User) bool {
			return other.encrypted() && other.Protocol == TURN && other.Name == u.Name && c.Serves(other.Addr)
		})):
			diags = append(diags, config.WithHint(config.Errorf(u.Range, "Port is shared", "%v is also the port of %v, which is shared: plain connections cannot share a port.",
				u.Addr, c.Listen), "give it another port"))
		case u.encrypted():
			diags = append(diags, distinguish(u, members)...)
			members = append(members, u)
		}
	}
	if len(members) == 0 && !diags.HasErrors() {
		return hcl.Diagnostics{config.WithHint(config.Errorf(c.ListenRange, "No endpoint uses this port",
			"No endpoint listens with TLS on %v.", c.Listen), "add the address to the listen attribute of an endpoint")}
	}
	slices.SortStableFunc(members, func(a, b User) int { return cmp.Compare(a.Protocol, b.Protocol) })
	for _, u := range members {
		c.Endpoints = append(c.Endpoints, u.String())
	}
	return diags
}

// distinguish returns an error if a client of u may also be one of others.
func distinguish(u User, others []User) hcl.Diagnostics {
	for _, other := range others {
		if other.Protocol != u.Protocol || other.Name == u.Name {
			continue
		}
		if name, both := commonName(u.Pairs, other.Pairs); both {
			return hcl.Diagnostics{config.WithHint(config.Errorf(u.Range, "Endpoints cannot be told apart",
				"%v and %v listen on %v, and the certificates of both are for %s.", other, u, u.Addr, name),
				"use certificates for different names, or another port")}
		}
	}
	return nil
}

// commonName returns a server name for which both have certificates.
func commonName(a, b []certs.Pair) (name string, found bool) {
	if len(a) == 0 || len(b) == 0 {
		return "the same names, because they are self-signed", len(a) == len(b)
	}
	namesA, namesB := namesOf(a), namesOf(b)
	for _, one := range namesA {
		for _, other := range namesB {
			switch {
			case certs.Covers(one, other):
				return other, true
			case certs.Covers(other, one):
				return one, true
			}
		}
	}
	return "", false
}

// namesOf returns the names of certificates that exist, or that an authority has yet to issue.
func namesOf(pairs []certs.Pair) (names []string) {
	for _, pair := range pairs {
		if pair.Name != "" {
			names = append(names, pair.Name)
		}
		if certificate, err := certs.ReadPair(pair); err == nil {
			names = append(names, certificate.Leaf.DNSNames...)
		}
	}
	return names
}

// checkFallback returns an error if the fallback is a shared port.
func (c *Config) checkFallback(blocks []config.SharedPort, all []Config) hcl.Diagnostics {
	host, port, err := net.SplitHostPort(c.Fallback)
	if err != nil {
		return nil
	}
	for _, other := range all {
		if port != fmt.Sprint(other.Listen.Port) || !other.isAt(host) {
			continue
		}
		i := slices.IndexFunc(blocks, func(b config.SharedPort) bool { return b.Listen.Range == c.ListenRange })
		return hcl.Diagnostics{config.WithHint(config.Errorf(blocks[i].Fallback.Range, "Fallback is a shared port",
			"%s is the shared port %v itself: connections would loop.", c.Fallback, other.Listen),
			"give the web server another port, such as 8443 on 127.0.0.1")}
	}
	return nil
}

// isAt reports whether a connection to host reaches the address of the port.
func (c *Config) isAt(host string) bool {
	if strings.EqualFold(host, c.Listen.Host) {
		return true
	}
	if strings.EqualFold(host, "localhost") {
		return c.Listen.Unspecified() || c.Listen.Loopback()
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || !c.Listen.Unspecified() {
		return false
	}
	return addr.IsLoopback() || isLocal(addr)
}

// isLocal reports whether addr is one of this machine.
func isLocal(addr netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(all, func(a net.Addr) bool {
		network, ok := a.(*net.IPNet)
		return ok && network.IP.Equal(addr.AsSlice())
	})
}
