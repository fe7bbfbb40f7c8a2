package origin

import (
	"net/netip"
	"strconv"

	"github.com/mailturn/mailturn/imapext"
)

// proxyTTL is how many proxies a connection may pass after this one. Dovecot, which defines these fields, allows five in a row, and
// ends a connection that has passed more, as in a loop.
const proxyTTL = 4

// Identification returns the fields of the command ID (RFC 2971) that describe the client to a server. sessionID is also in our
// log.
func (o Origin) Identification(sessionID string) []imapext.IDField {
	var fields []imapext.IDField
	add := func(name string, addr netip.AddrPort) {
		if addr.IsValid() {
			fields = append(fields, imapext.IDField{Name: "x-" + name + "-ip", Value: addr.Addr().String()},
				imapext.IDField{Name: "x-" + name + "-port", Value: strconv.Itoa(int(addr.Port()))})
		}
	}
	add("originating", o.Client)
	add("connected", o.Server)
	return append(fields, imapext.IDField{Name: "x-session-id", Value: sessionID},
		imapext.IDField{Name: "x-proxy-ttl", Value: strconv.Itoa(proxyTTL)})
}
