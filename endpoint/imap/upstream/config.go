package upstream

import (
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
)

const defaultConnectTimeout = 10 * time.Second

// Schema is the body of the upstream block.
type Schema struct {
	config.Block
	Address        config.Value[[]string]      `hcl:"address" doc:"Where the server listens: tcp://HOST:PORT, tls://HOST:PORT for TLS from the first byte, starttls://HOST:PORT for TLS by the command STARTTLS, or unix:///PATH. Of a list, the first address that answers is used; one that did not is asked last for 30 seconds. Plain tcp:// is for this machine or a network that you trust."`
	CAFile         config.Value[string]        `hcl:"tls_ca" type:"file" otherwise:"the system's" doc:"Certificates in PEM that may have signed the server's, for tls:// and starttls://."`
	ServerName     config.Value[string]        `hcl:"tls_server_name" otherwise:"the host of address" doc:"Name that the server's certificate must have, for tls:// and starttls://."`
	ConnectTimeout config.Value[time.Duration] `hcl:"connect_timeout" default:"10s" doc:"How long one address may take to greet: connection, TLS and the first line of the server together."`
	ClientAddress  config.Value[string]        `hcl:"client_address" default:"none" doc:"How the server is told where a client comes from. Without it all clients share one address there: while somebody guesses passwords, everybody's login is delayed. id: by the fields x-originating-ip and others of the command ID, which the server has to believe (Dovecot: login_trusted_networks). proxy2: by the PROXY protocol, version 2, which also says whether the client uses TLS, and which the server has to expect from here (Dovecot: haproxy = yes at the listener, and haproxy_trusted_networks). proxy: by its version 1, which cannot say that, so a server that takes passwords over TLS alone takes none. none: it sees the address of mailturn."`
}

// Config says how to reach the IMAP server that is already there.
type Config struct {
	Addresses      []Address     // tried in this order
	AddressRanges  []hcl.Range   // the place of each
	CAFile         string        // empty for the system's certificates
	ServerName     string        // empty for the host of each address
	ConnectTimeout time.Duration // for each address, up to the greeting
	ClientAddress  ClientAddress
	// Undecided is the place of the block if client_address is left out, and zero if it is set, be it to none.
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

// ClientAddress says how the upstream server learns where a client comes from.
type ClientAddress string

const (
	ClientAddressNone   ClientAddress = "none"
	ClientAddressProxy  ClientAddress = "proxy"  // PROXY protocol version 1
	ClientAddressProxy2 ClientAddress = "proxy2" // PROXY protocol version 2
	ClientAddressID     ClientAddress = "id"     // fields of the command ID
)

// proxyVersion returns the version of the PROXY protocol to be used, 0 for none.
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
			return nil, nil // it could not be decoded, which has been said
		}
		rng := s.Range
		if s.Address.Set {
			rng = s.Address.Range
		}
		return nil, hcl.Diagnostics{config.WithHint(config.Errorf(rng, "Address is missing",
			"An upstream needs the address of the IMAP server."), `add address = "tcp://127.0.0.1:1143"`)}
	}
	c = &Config{ConnectTimeout: defaultConnectTimeout, ClientAddress: ClientAddressNone}
	seen := make(map[Address]bool)
	encrypted := false
	for i, text := range s.Address.V {
		address, diag := parseAddress(s.Address.At(i), text)
		switch {
		case diag != nil:
			diags = append(diags, diag)
			continue
		case seen[address]:
			diags = append(diags, config.WithHint(config.Errorf(s.Address.At(i), "Upstream address is there twice",
				"%s would be tried again after it has failed.", address), "remove one of them"))
			continue
		}
		seen[address] = true
		encrypted = encrypted || address.encrypted()
		c.Addresses = append(c.Addresses, address)
		c.AddressRanges = append(c.AddressRanges, s.Address.At(i))
	}
	diags = append(diags, c.decodeTLS(s, encrypted || diags.HasErrors())...)
	if s.ConnectTimeout.Set {
		c.ConnectTimeout = s.ConnectTimeout.V
		if c.ConnectTimeout < time.Second {
			diags = append(diags, config.Errorf(s.ConnectTimeout.Range, "Time to connect is too short",
				"connect_timeout is %v: want 1s or more.", c.ConnectTimeout))
		}
	}
	if !s.ClientAddress.Set {
		c.Undecided = s.Range
	} else {
		switch c.ClientAddress = ClientAddress(s.ClientAddress.V); c.ClientAddress {
		case ClientAddressNone, ClientAddressProxy2, ClientAddressID:
		case ClientAddressProxy:
			diags = append(diags, config.WithHint(config.Warnf(s.ClientAddress.Range, "Server is not told of TLS",
				"Version 1 of the PROXY protocol cannot say that a client uses TLS: Dovecot as it is installed then refuses every password."),
				`set client_address = "proxy2"; Dovecot reads both versions`))
		default:
			diags = append(diags, config.Errorf(s.ClientAddress.Range, "Unknown way to tell the client's address",
				"client_address is %q: want none, proxy, proxy2 or id.", s.ClientAddress.V))
		}
	}
	return c, diags
}

// decodeTLS reads the attributes that matter when one of the addresses is encrypted.
func (c *Config) decodeTLS(s *Schema, encrypted bool) (diags hcl.Diagnostics) {
	if !encrypted {
		for _, v := range []config.Value[string]{s.CAFile, s.ServerName} {
			if v.Set {
				diags = append(diags, config.Warnf(v.Range, "Attribute has no effect", "It is about TLS, and no address of the server has the scheme tls or starttls."))
			}
		}
		return diags
	}
	c.ServerName = s.ServerName.V
	if c.CAFile = config.Path(s.CAFile); c.CAFile != "" {
		if _, err := readRoots(c.CAFile); err != nil {
			diags = append(diags, config.WithHint(config.Errorf(s.CAFile.Range, "File of certificates cannot be used", "%v.", err),
				"it must hold certificates in PEM form; leave tls_ca out for those of the system"))
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
				"a path begins with a slash, so there are three of them: unix:///run/dovecot/imap")
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
			return Address{}, config.WithHint(config.Errorf(rng, "Upstream address names no host", "%q stands for every address: "+accepted+".", text),
				"for this machine, write 127.0.0.1")
		}
		return Address{addr.Scheme, addr.HostPort()}, nil
	default:
		return Address{}, config.Errorf(rng, "Upstream address has an unknown scheme", "%q: "+accepted+".", text)
	}
}
