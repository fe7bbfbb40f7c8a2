package interop

import "strings"

// reason says why clients have no cell in some columns. An empty field of it matches everything.
type reason struct {
	name, how string // Cell.Name and Cell.How, whose versions do not count
	column    string // "TLS", "IPv6" or "TLS, IPv6"
	text      string
}

// Ways in which Delta Chat core gets a credential.
const (
	overCore     = "IMAP METADATA, by Delta Chat core"
	overDict     = "dict, for Dovecot, by Delta Chat core"
	overOldCore  = "IMAP METADATA, by an old Delta Chat core"
	overCredsock = "credsock, for chatmail's dictionary, by Delta Chat core"
)

// overPort443 is the way in which browsers get one if everything has port 443.
const overPort443 = "IMAP METADATA, all on one port 443"

// reasons are for the cells that no test fills. The first one that matches counts.
var reasons = []reason{
	{name: "Chromium", column: "DTLS", text: "has no TURN over DTLS"},
	{name: "Firefox ESR", column: "DTLS", text: "has no TURN over DTLS"},
	{name: "aioice", column: "DTLS", text: "has no TURN over DTLS"},
	{name: "aiortc", column: "DTLS", text: "has no TURN over DTLS"},
	{name: "baresip", column: "TCP", text: "has TURN over UDP alone"},
	{name: "baresip", column: "TLS", text: "has TURN over UDP alone"},
	{name: "baresip", column: "DTLS", text: "has TURN over UDP alone"},
	{name: "werift", column: "DTLS", text: "has no TURN over DTLS"},
	{name: "@roamhq/wrtc", column: "TLS", text: "trusts only the authorities compiled into it, not that of this test"},
	{name: "@roamhq/wrtc", column: "DTLS", text: "has no TURN over DTLS"},
	{name: "LiveKit's Go SDK", column: "DTLS", text: "LiveKit names no relay over DTLS"},
	{name: "LiveKit's Go SDK", column: "IPv6", text: "the pion/ice 4.4.0 that it needs leaves out relays over IPv6"},
	{name: "LiveKit's client in Chromium", column: "DTLS", text: "LiveKit names no relay over DTLS"},
	{name: "libnice in GStreamer", column: "DTLS", text: "has no TURN over DTLS"},
	{name: "libnice in GStreamer", column: "TLS", text: "has no TURN over TLS"},
	{how: "shared secret, in other modes", column: "IPv6", text: "as over IPv4"},
	{how: overCore, column: "TLS", text: "core names no relay over TLS"},
	{how: overOldCore, text: "as with a new core"},
	{how: overPort443, column: "UDP", text: "a shared port is for TLS"},
	{how: overPort443, column: "TCP", text: "a shared port is for TLS"},
	{how: overPort443, column: "IPv6", text: "as over IPv4"},
	{how: overDict, column: "IPv4", text: "as over IMAP METADATA"},
	{how: overDict, column: "IPv6", text: "as over IMAP METADATA"},
	{how: overCredsock, column: "IPv4", text: "as over IMAP METADATA"},
	{how: overCredsock, column: "IPv6", text: "as over IMAP METADATA"},
}

// untried is what a cell says that has no reason to be empty. TestDocument does not let it into docs/interop.md.
const untried = "not tried"

// reasonFor returns what an empty cell in a column says. c is another cell of its row.
func reasonFor(c Cell, column string) string {
	if c.Kind != Client {
		return ""
	}
	for _, r := range reasons {
		if (r.name == "" || r.name == c.Name) && (r.how == "" || r.how == withoutVersions(c.How)) &&
			(r.column == "" || strings.Contains(", "+column+",", ", "+r.column+",")) {
			return r.text
		}
	}
	return untried
}
