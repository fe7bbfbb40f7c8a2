package probe

import (
	"encoding/json"
	"time"

	"github.com/mailturn/mailturn/framework/sysctl"
)

// SchemaVersion is the version of the JSON form of a Report. Members are added under the same number; docs/probe.md
// describes them.
const SchemaVersion = 1

// Status is how a check came out.
type Status string

// Statuses, from good to bad; skipped is neither.
const (
	OK      Status = "ok"
	Note    Status = "note"    // worth knowing, nothing to do
	Skipped Status = "skipped" // could not be checked, or need not be
	Warning Status = "warning" // calls connect, but not for everybody or not safely
	Failure Status = "failure" // a call would not connect, or the relay is open to strangers
)

// Report is what a probe found. No member holds a password.
type Report struct {
	SchemaVersion int       `json:"schema_version"`
	Target        string    `json:"target"`
	Started       time.Time `json:"started"`
	DurationMS    float64   `json:"duration_ms"`
	Verdict       Verdict   `json:"verdict"`
	Checks        []Check   `json:"checks"`
	Names         []Name    `json:"names,omitempty"`
	IMAP          *Session  `json:"imap,omitempty"`
	// ICEServers are those that core would hand to WebRTC, the password taken out.
	ICEServers json.RawMessage `json:"ice_servers,omitempty"`
	// Fallback says that core would use its public fallback servers.
	Fallback bool    `json:"fallback"`
	Relays   []Relay `json:"relays,omitempty"`
	// Conntrack is the table of tracked connections on the server's own machine, if the probe runs there.
	Conntrack *sysctl.Conntrack `json:"conntrack,omitempty"`

	// insideOnly says that nothing was sent from outside to an address of the relay that is meant for it.
	insideOnly bool
}

// Verdict is the answer to the question.
type Verdict struct {
	Status       Status `json:"status"` // ok, warning or failure
	CallConnects bool   `json:"call_connects"`
	Text         string `json:"text"`
	// Action is what to do next; empty when nothing is to be done.
	Action string `json:"action,omitempty"`
	// NotTested is what Text is silent about: what could not be tested, and why.
	NotTested []string `json:"not_tested,omitempty"`
}

// Check is one finding.
type Check struct {
	// ID is of a closed set, PART.CHECK.
	ID      string `json:"id"`
	Subject string `json:"subject,omitempty"` // a name, an address and a transport, a peer
	Status  Status `json:"status"`
	Summary string `json:"summary"`
	Action  string `json:"action,omitempty"`
}

// Name is what DNS says of one name.
type Name struct {
	Name   string `json:"name"`
	Source string `json:"source"` // dns, hosts or literal
	IPv4   Family `json:"ipv4"`
	IPv6   Family `json:"ipv6"`
}

// Family is what DNS says of the addresses of one family.
type Family struct {
	Chain      []Alias   `json:"chain,omitempty"`
	Addresses  []Address `json:"addresses,omitempty"`
	Error      string    `json:"error,omitempty"`
	Server     string    `json:"server,omitempty"`
	DurationMS float64   `json:"duration_ms"`
}

// Alias is a CNAME.
type Alias struct {
	From       string `json:"from"`
	To         string `json:"to"`
	TTLSeconds int    `json:"ttl_seconds"`
}

// Address is an address with its TTL, 0 where it is not from DNS.
type Address struct {
	Address    string `json:"address"`
	TTLSeconds int    `json:"ttl_seconds"`
}

// Session is the conversation with the IMAP server.
type Session struct {
	Address            string       `json:"address"`
	ConnectMS          float64      `json:"connect_ms"`
	TLS                *Certificate `json:"tls,omitempty"`
	Greeting           string       `json:"greeting,omitempty"`
	CapabilitiesBefore []string     `json:"capabilities_before_login,omitempty"`
	CapabilitiesAfter  []string     `json:"capabilities_after_login,omitempty"`
	Mechanism          string       `json:"mechanism,omitempty"` // LOGIN, or the SASL mechanism of AUTHENTICATE
	Compressed         bool         `json:"compressed"`
	// Metadata is what the server answered, the passwords taken out.
	Metadata    []string `json:"metadata,omitempty"`
	ExpiresUnix int64    `json:"expires_unix,omitempty"`
}

// Certificate is what a TLS handshake showed.
type Certificate struct {
	Version   string    `json:"version"`
	ALPN      string    `json:"alpn,omitempty"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Chain     int       `json:"chain"` // certificates that were sent
	Verified  bool      `json:"verified"`
	Error     string    `json:"error,omitempty"`
}

// Relay is what happened at one address over one transport.
type Relay struct {
	Address     string       `json:"address"`
	Transport   Transport    `json:"transport"`
	ConnectMS   float64      `json:"connect_ms,omitempty"`
	TLS         *Certificate `json:"tls,omitempty"`
	BindingMS   float64      `json:"binding_ms,omitempty"`
	Mapped      string       `json:"mapped_address,omitempty"`
	Realm       string       `json:"realm,omitempty"`
	AllocateMS  float64      `json:"allocate_ms,omitempty"`
	RelayedAddr string       `json:"relayed_address,omitempty"`
	LifetimeS   int          `json:"lifetime_seconds,omitempty"`
	// RelayToRelay is between two allocations, as of two callers on one server; Direct is from and to the probe's own
	// address, as a caller on another server sees the relay.
	RelayToRelay *Echo `json:"relay_to_relay,omitempty"`
	Direct       *Echo `json:"direct,omitempty"`
	// PathMTU is the largest IP packet in bytes that gets through between here and the relay both ways; over UDP alone. No
	// larger ones than for a payload of 1400 bytes are tried.
	PathMTU int `json:"path_mtu,omitempty"`
	// Stage is where it ended, empty if all went well: route, connect, tls, binding, challenge, allocate, relay.
	Stage string `json:"stage,omitempty"`
	Error string `json:"error,omitempty"`
	Code  int    `json:"error_code,omitempty"` // of the error response
	// RequestBytes and ResponseBytes are the sizes of a request without credentials and of the answer to it.
	RequestBytes  int `json:"unauthenticated_request_bytes,omitempty"`
	ResponseBytes int `json:"unauthenticated_response_bytes,omitempty"`
}

// Echo counts packets that went to a peer and came back.
type Echo struct {
	Sent     int `json:"sent"`
	Received int `json:"received"`
	// The times are 0 where nothing came back, and so are LargestBytes where no other size than that of voice was tried.
	MinMS        float64 `json:"rtt_min_ms,omitempty"`
	MedianMS     float64 `json:"rtt_median_ms,omitempty"`
	MaxMS        float64 `json:"rtt_max_ms,omitempty"`
	LargestBytes int     `json:"largest_bytes,omitempty"` // the largest payload, of up to 1400 bytes, that came back
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// add adds a check and returns whether it is no failure. What servers said may be in its texts, so they are made printable.
func (r *Report) add(id, subject string, status Status, summary, action string) bool {
	r.Checks = append(r.Checks, Check{ID: id, Subject: printable(subject), Status: status, Summary: printable(summary), Action: printable(action)})
	return status != Failure
}

// order is that of the checks in a report, and of failures by how much they explain: the first one is the verdict.
var order = []string{
	conntrackID,
	"imap.dns", "imap.connect", "imap.tls", "imap.login", "imap.capabilities", "imap.compress", "imap.metadata",
	"value.parse", "value.host", "value.port", "value.form", "value.expiry", "value.ttl",
	"turn.dns", "turn.udp", "turn.credential", "turn.relayed_address", "turn.relay_to_relay", "turn.direct", "turn.packet_size", "turn.ipv4", "turn.ipv6",
	"turn.tcp", "turn.tls", "turn.ports", "turn.answer_size",
	"safety.anonymous", "safety.loopback", "safety.private", "safety.password", "safety.expired",
}

// unsafe are the failures with which a call connects all the same.
var unsafe = map[string]bool{"safety.anonymous": true, "safety.loopback": true, "safety.private": true, "safety.password": true, "safety.expired": true}
