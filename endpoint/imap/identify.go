package imap

import (
	"net/netip"
	"strconv"

	"github.com/mailturn/mailturn/imapext"
)

// proxyTTL is how many proxies there may be behind this one: Dovecot, whose fields these are, lets five follow each other, and
// ends a connection that has come through more, as in a loop.
const proxyTTL = 4

// identification is what a server is told by ID (RFC 2971) of a client, for ClientAddressID. sessionID stands in our log too.
func (o origin) identification(sessionID string) []imapext.IDField {
	var fields []imapext.IDField
	add := func(name string, addr netip.AddrPort) {
		if addr.IsValid() {
			fields = append(fields, imapext.IDField{Name: "x-" + name + "-ip", Value: addr.Addr().String()},
				imapext.IDField{Name: "x-" + name + "-port", Value: strconv.Itoa(int(addr.Port()))})
		}
	}
	add("originating", o.client)
	add("connected", o.server)
	return append(fields, imapext.IDField{Name: "x-session-id", Value: sessionID},
		imapext.IDField{Name: "x-proxy-ttl", Value: strconv.Itoa(proxyTTL)})
}
