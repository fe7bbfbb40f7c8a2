package upstream

import (
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
)

// Schema is the body of the upstream block.
type Schema struct {
	config.Block
	Address        config.Value[[]string]      `hcl:"address" doc:"Address of the server: tcp://HOST:PORT, tls://HOST:PORT for TLS from the first byte, starttls://HOST:PORT for STARTTLS, or unix:///PATH. With a list, the first address that answers is used; one that did not answer is tried last for 30 seconds. Use plain tcp:// on this machine or in a trusted network only."`
	CAFile         config.Value[string]        `hcl:"tls_ca" type:"file" otherwise:"the system's roots" doc:"CA certificates in PEM form for tls:// and starttls://."`
	ServerName     config.Value[string]        `hcl:"tls_server_name" otherwise:"the host of address" doc:"Name that the server's certificate must contain, for tls:// and starttls://."`
	ConnectTimeout config.Value[time.Duration] `hcl:"connect_timeout" default:"10s" min:"1s" doc:"How long one address may take for connection, TLS and greeting together."`
	ClientAddress  config.Value[string]        `hcl:"client_address" default:"none" doc:"How the server learns the client's address. Otherwise all clients share one address there, and while somebody guesses passwords, everybody's login is delayed. id: by the ID command, with x-originating-ip and other fields, which the server must trust (Dovecot: login_trusted_networks). proxy2: by the PROXY protocol, version 2, which also says whether the client uses TLS; the server must expect it (Dovecot: haproxy = yes in the listener, and haproxy_trusted_networks). proxy: version 1, which cannot say so; a server that accepts passwords over TLS only then accepts none. none: the server sees mailturn's address."`
}

// Config describes how to reach the existing IMAP server.
type Config struct {
	Addresses      []Address     // tried in this order
	AddressRanges  []hcl.Range   // the place of each
	CAFile         string        // empty for the system's certificates
	ServerName     string        // empty for the host of each address
	ConnectTimeout time.Duration // for each address, up to the greeting
	ClientAddress  ClientAddress
	// Undecided is the place of the block if client_address is left out. It is zero if that is set, even to none.
	Undecided hcl.Range
}

// An Address is where the server listens.
type Address struct {
	Scheme  string // tcp, tls, starttls or unix
	Address string // host:port, or a path
}

func (a Address) String() string { return a.Scheme + "://" + a.Address }

// encrypted reports whether the connection is protected by TLS.
func (a Address) encrypted() bool { return a.Scheme == "tls" || a.Scheme == "starttls" }

// ClientAddress says how the server learns a client's address.
type ClientAddress string

const (
	ClientAddressNone   ClientAddress = "none"
	ClientAddressProxy  ClientAddress = "proxy"  // PROXY protocol version 1
	ClientAddressProxy2 ClientAddress = "proxy2" // PROXY protocol version 2
	ClientAddressID     ClientAddress = "id"     // fields of the command ID
)

// proxyVersion returns the version of the PROXY protocol to use, or 0 for none.
func (c ClientAddress) proxyVersion() byte {
	switch c {
	case ClientAddressProxy:
		return 1
	case ClientAddressProxy2:
		return 2
	default:
		return 0
	}
}

// Decode checks the block and returns its plain values, nil if there is no address. It reads the certificates of tls_ca.
func Decode(s *Schema) (c *Config, diags hcl.Diagnostics) {
	if len(s.Address.V) == 0 {
		if s.Address.Set && s.Address.V == nil {
			return nil, nil // it could not be decoded, which has been reported
		}
		rng := s.Range
		if s.Address.Set {
			rng = s.Address.Range
		}
		return nil, hcl.Diagnostics{config.WithHint(config.Errorf(rng, "Address is missing",
			"upstream requires the address of the IMAP server."), `add address = "tcp://127.0.0.1:1143"`)}
	}
	c = &Config{ConnectTimeout: s.ConnectTimeout.V, ClientAddress: ClientAddress(s.ClientAddress.V)}
	seen := make(map[Address]bool)
	encrypted := false
	for i, text := range s.Address.V {
		address, diag := parseAddress(s.Address.At(i), text)
		switch {
		case diag != nil:
			diags = append(diags, diag)
			continue
		case seen[address]:
			diags = append(diags, config.WithHint(config.Errorf(s.Address.At(i), "Duplicate upstream address",
				"%s would be tried again after it failed.", address), "remove one of them"))
			continue
		}
		seen[address] = true
		encrypted = encrypted || address.encrypted()
		c.Addresses = append(c.Addresses, address)
		c.AddressRanges = append(c.AddressRanges, s.Address.At(i))
	}
	diags = append(diags, c.decodeTLS(s, encrypted || diags.HasErrors())...)
	if !s.ClientAddress.Set {
		c.Undecided = s.Range
	}
	switch c.ClientAddress {
	case ClientAddressNone, ClientAddressProxy2, ClientAddressID:
	case ClientAddressProxy:
		diags = append(diags, config.WithHint(config.Warnf(s.ClientAddress.Range, "Server does not learn about TLS",
			"Version 1 of the PROXY protocol cannot say that a client uses TLS: by default, Dovecot then refuses every password."),
			`set client_address = "proxy2"; Dovecot reads both versions`))
	default:
		diags = append(diags, config.Errorf(s.ClientAddress.Range, "Invalid client_address",
			"client_address is %q: want none, proxy, proxy2 or id.", s.ClientAddress.V))
	}
	return c, diags
}

// decodeTLS reads the attributes that matter when one of the addresses is encrypted.
func (c *Config) decodeTLS(s *Schema, encrypted bool) (diags hcl.Diagnostics) {
	if !encrypted {
		for _, v := range []config.Value[string]{s.CAFile, s.ServerName} {
			if v.Set {
				diags = append(diags, config.Warnf(v.Range, "Attribute has no effect", "It is for TLS, but no address of the server has the scheme tls or starttls."))
			}
		}
		return diags
	}
	c.ServerName = s.ServerName.V
	if c.CAFile = config.Path(s.CAFile); c.CAFile != "" {
		if _, err := readRoots(c.CAFile); err != nil {
			diags = append(diags, config.WithHint(config.Errorf(s.CAFile.Range, "Invalid certificate file", "%v.", err),
				"it must contain certificates in PEM form; omit tls_ca to use the system's"))
		}
	}
	return diags
}

func parseAddress(rng hcl.Range, text string) (Address, *hcl.Diagnostic) {
	const accepted = "want tcp://HOST:PORT, tls://HOST:PORT, starttls://HOST:PORT or unix:///PATH"
	scheme, rest, _ := strings.Cut(text, "://")
	switch scheme = strings.ToLower(scheme); scheme {
	case "unix":
		if !strings.HasPrefix(rest, "/") {
			return Address{}, config.WithHint(config.Errorf(rng, "Upstream address has no path", "%q: "+accepted+".", text),
				"a path begins with a slash, so there are three: unix:///run/dovecot/imap")
		}
		return Address{scheme, rest}, nil
	case "tcp", "tls", "starttls":
		var addr listen.Addr
		if err := addr.UnmarshalText([]byte(text)); err != nil {
			return Address{}, config.Errorf(rng, "Upstream address cannot be read", "%q: %v.", text, err)
		}
		switch {
		case addr.Port == 0:
			return Address{}, config.Errorf(rng, "Upstream address has no port", "%q has port 0: want 1 to 65535.", text)
		case addr.Unspecified():
			return Address{}, config.WithHint(config.Errorf(rng, "Upstream address has no host", "%q means every address: "+accepted+".", text),
				"for this machine, use 127.0.0.1")
		}
		return Address{addr.Scheme, addr.HostPort()}, nil
	default:
		return Address{}, config.Errorf(rng, "Upstream address has an unknown scheme", "%q: "+accepted+".", text)
	}
}
