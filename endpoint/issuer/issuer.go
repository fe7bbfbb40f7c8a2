// Package issuer implements what the endpoints that issue TURN credentials have in common: the attributes for the relay and its
// secret, their agreement with the TURN endpoint of the same file, and the credentials.
package issuer

import (
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Config is how an endpoint issues credentials, and what it tells clients about the relay. The Set of a value says whether the file
// has it, Range where. Decode returns one, and Link fills in what the file leaves out.
type Config struct {
	Server     config.Value[string]   // a name or an IPv4 address
	Port       config.Value[uint16]   // of plain TURN
	Transports config.Value[[]string] // of plain TURN, "udp" and "tcp", if Set
	TLSPort    config.Value[uint16]   // 0 after Link for a relay without TLS
	Secrets    config.Value[[]credential.Secret]
	// Ring has secrets of which the first one is used in place of Secrets, if the relay is the TURN endpoint of the same file, and those
	// that a relay of the cluster accepts. Join sets it.
	Ring      *credential.Ring
	TTL       config.Value[time.Duration]
	PreferTLS config.Value[bool] // plain TURN uses TLSPort too

	// Given are the attributes and blocks of Schema that the file has.
	Given []config.Set

	// UDPPort and TCPPort are the ports of plain TURN that clients are told, 0 for a relay that does not serve the transport.
	// Link sets them.
	UDPPort, TCPPort uint16

	// Relays are the relays of the relay blocks. If there are any, an account has one of them, see For, and of the fields above
	// only TTL is used.
	Relays []WeightedRelay

	// Accounts records for the relay of this process to whom credentials are issued. The caller sets it; with nil nothing is
	// recorded.
	Accounts *credential.Accounts
	// Draining, if not nil, is true while the relay of this process refuses new calls. The caller sets it.
	Draining *atomic.Bool
	// Names decides which login names belong to the same account. The caller sets it.
	Names AccountNames

	// Cluster are the relays of which accounts have one instead, while it knows any: see For. Join sets it.
	Cluster Directory
	known   []credential.Identified // secrets of the file
	linked  bool                    // the relay is the TURN endpoint of the same file, and accepts the secrets of Ring
}

// secret returns the secret to issue with.
func (c Config) secret() credential.Secret {
	if c.linked {
		if rotated := c.Ring.Issuing(); len(rotated) > 0 {
			return rotated[0].Secret
		}
	}
	return c.Secrets.V[0]
}

// Issue returns a credential created now with the first secret, which must exist, for an unknown user. Its user name is only a
// number.
func (c Config) Issue(now time.Time) credential.Credential { return c.IssueTo("", now) }

// IssueTo returns a credential as Issue does, by which the relay of this process identifies account, and which no other account
// has: see credential.Accounts.
func (c Config) IssueTo(account string, now time.Time) credential.Credential {
	issuer := credential.Issuer{Secret: c.secret(), TTL: c.TTL.V}
	if c.Accounts == nil {
		return issuer.Issue(now)
	}
	return c.Accounts.Issue(issuer, c.Names.Account(account), now)
}

// IssueFor returns a credential as Issue does, with the account of user in its user name unless that is empty: see
// credential.Issuer.
func (c Config) IssueFor(user string, now time.Time) credential.Credential {
	if user == "" {
		return c.Issue(now)
	}
	issuer, account := credential.Issuer{Secret: c.secret(), TTL: c.TTL.V}, c.Names.Account(user)
	return issuer.IssueFor(account, c.Accounts.Later(issuer, account, now))
}

// Values returns what Delta Chat reads about the relay with this credential: host:port:user:password, for TURN over UDP and for
// TURN over TLS. The value is empty for what the relay does not serve.
func (c Config) Values(issued credential.Credential) (turn, turns string) {
	value := func(port uint16) string {
		return c.Server.V + ":" + strconv.Itoa(int(port)) + ":" + issued.Username + ":" + issued.Password
	}
	if c.UDPPort != 0 {
		turn = value(c.UDPPort)
	}
	if c.TLSPort.V != 0 {
		turns = value(c.TLSPort.V)
	}
	return turn, turns
}

// A Server is one way to reach the relay.
type Server struct {
	Transport string // "udp", "tcp", or "tls" over TCP
	Port      uint16
}

// Servers returns the ways to reach the relay that clients are told about, the preferred one first. DTLS is not among them: no
// browser, and no program that this one exports for, speaks TURN over it.
func (c Config) Servers() (servers []Server) {
	for _, server := range []Server{{"udp", c.UDPPort}, {"tcp", c.TCPPort}, {"tls", c.TLSPort.V}} {
		if server.Port != 0 {
			servers = append(servers, server)
		}
	}
	return servers
}

// URIs returns the TURN URIs of Servers (RFC 7065 section 3.1).
func (c Config) URIs() (uris []string) {
	for _, server := range c.Servers() {
		scheme, transport := "turn", server.Transport
		if transport == "tls" {
			scheme, transport = "turns", "tcp"
		}
		uris = append(uris, scheme+":"+net.JoinHostPort(c.Server.V, strconv.Itoa(int(server.Port)))+"?transport="+transport)
	}
	return uris
}
