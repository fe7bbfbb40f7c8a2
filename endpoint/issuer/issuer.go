// Package issuer is what the endpoints that give out TURN credentials have in common: the attributes that say for which
// relay and under which secret, how they agree with the TURN endpoint of the same file, and the credentials.
package issuer

import (
	"net"
	"strconv"
	"time"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Config is how a door issues credentials, and what it tells clients of the relay. Set says whether the file has the
// value, Range where. Decode makes one, and Link fills in what the file leaves out.
type Config struct {
	Server    config.Value[string] // a name or an IPv4 address
	Port      config.Value[uint16] // of plain TURN
	TLSPort   config.Value[uint16] // after Link 0 for a relay without TLS
	Secrets   config.Value[[]credential.Secret]
	TTL       config.Value[time.Duration]
	PreferTLS config.Value[bool] // both entries carry TLSPort

	// Relays are the relays of the relay blocks. When there are some, an account has one of them, see For, and of the
	// fields above TTL alone counts.
	Relays []WeightedRelay

	// Accounts remembers for the relay of this process to whom credentials are issued. The caller puts it here; with nil
	// nobody is remembered.
	Accounts *credential.Accounts
}

// Issue returns a credential made now under the first secret, of which there must be one, for somebody who is not known. Its
// user name is a bare number.
func (c Config) Issue(now time.Time) credential.Credential { return c.IssueTo("", now) }

// IssueTo returns a credential as Issue does, by which the relay of this process knows account, and which that account alone
// has: see credential.Accounts.
func (c Config) IssueTo(account string, now time.Time) credential.Credential {
	issuer := credential.Issuer{Secret: c.Secrets.V[0], TTL: c.TTL.V}
	if c.Accounts == nil {
		return issuer.Issue(now)
	}
	return c.Accounts.Issue(issuer, account, now)
}

// IssueFor returns a credential as Issue does, with user in its name unless that is empty: see credential.Issuer.
func (c Config) IssueFor(user string, now time.Time) credential.Credential {
	if user == "" {
		return c.Issue(now)
	}
	return credential.Issuer{Secret: c.Secrets.V[0], TTL: c.TTL.V}.IssueFor(user, now)
}

// Values returns what Delta Chat reads of the relay with this credential: host:port:user:password, for plain TURN and for
// TURN over TLS. The second is empty for a relay without TLS.
func (c Config) Values(issued credential.Credential) (turn, turns string) {
	value := func(port uint16) string {
		return c.Server.V + ":" + strconv.Itoa(int(port)) + ":" + issued.Username + ":" + issued.Password
	}
	turn = value(c.PlainPort())
	if c.TLSPort.V != 0 {
		turns = value(c.TLSPort.V)
	}
	return turn, turns
}

// URIs returns the TURN URIs of the relay (RFC 7065 section 3.1): UDP, TCP and, where there is TLS, TLS over TCP.
func (c Config) URIs() []string {
	plain := net.JoinHostPort(c.Server.V, strconv.Itoa(int(c.PlainPort())))
	uris := []string{"turn:" + plain + "?transport=udp", "turn:" + plain + "?transport=tcp"}
	if c.TLSPort.V != 0 {
		uris = append(uris, "turns:"+net.JoinHostPort(c.Server.V, strconv.Itoa(int(c.TLSPort.V)))+"?transport=tcp")
	}
	return uris
}

// PlainPort is the port that clients of plain TURN are told.
func (c Config) PlainPort() uint16 {
	if c.PreferTLS.V {
		return c.TLSPort.V
	}
	return c.Port.V
}
