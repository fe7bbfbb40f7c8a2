package probe

import (
	"encoding/json"
	"time"

	"github.com/mailturn/mailturn/framework/sysctl"
)

// SchemaVersion is the version of a Report's JSON form, which docs/probe.md describes. Adding members does not change it.
const SchemaVersion = 1

// Status is the outcome of a check.
type Status string

// Statuses, from good to bad; Skipped is neither.
const (
	OK      Status = "ok"
	Note    Status = "note"    // worth knowing, nothing to do
	Skipped Status = "skipped" // could not be checked, or need not be
	Warning Status = "warning" // calls connect, but not for everybody or not safely
	Failure Status = "failure" // a call would not connect, or the relay is open to strangers
)

// Report is the result of a probe. No member contains a password.
type Report struct {
	SchemaVersion int       `json:"schema_version"`
	Target        string    `json:"target"`
	Started       time.Time `json:"started"`
	DurationMS    float64   `json:"duration_ms"`
	Verdict       Verdict   `json:"verdict"`
	Checks        []Check   `json:"checks"`
	Names         []Name    `json:"names,omitempty"`
	IMAP          *Session  `json:"imap,omitempty"`
	// ICEServers are those that core would pass to WebRTC, without the password.
	ICEServers json.RawMessage `json:"ice_servers,omitempty"`
	// Fallback says whether core would use its public fallback servers.
	Fallback bool    `json:"fallback"`
	Relays   []Relay `json:"relays,omitempty"`
	// Conntrack is the table of tracked connections on the server's own machine, if the probe runs there.
	Conntrack *sysctl.Conntrack `json:"conntrack,omitempty"`
	// KernelPath says which TURN endpoints of the server on this machine have the kernel relay calls, or would if they could.
	KernelPath []KernelPath `json:"kernel_path,omitempty"`

	// insideOnly says that no packets were sent from outside to a public address of the relay.
	insideOnly bool
}

// Verdict says whether a call would connect.
type Verdict struct {
	Status       Status `json:"status"` // ok, warning or failure
	CallConnects bool   `json:"call_connects"`
	Text         string `json:"text"`
	// Action is what to do next; empty if there is nothing to do.
	Action string `json:"action,omitempty"`
	// NotTested lists what could not be tested, and why.
	NotTested []string `json:"not_tested,omitempty"`
}

// Check is one finding.
type Check struct {
	// ID is one of a fixed set, PART.CHECK.
	ID      string `json:"id"`
	Subject string `json:"subject,omitempty"` // a name, an address and a transport, a peer
	Status  Status `json:"status"`
	Summary string `json:"summary"`
	Action  string `json:"action,omitempty"`
}

// Name is the result of the lookups of one name.
type Name struct {
	Name   string `json:"name"`
	Source string `json:"source"` // dns, hosts or literal
	IPv4   Family `json:"ipv4"`
	IPv6   Family `json:"ipv6"`
}

// Family contains a name's addresses of one family.
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

// Address is an address with its TTL, which is 0 if it is not from DNS.
type Address struct {
	Address    string `json:"address"`
	TTLSeconds int    `json:"ttl_seconds"`
}

// Session describes the IMAP session.
type Session struct {
	Address            string       `json:"address"`
	ConnectMS          float64      `json:"connect_ms"`
	TLS                *Certificate `json:"tls,omitempty"`
	Greeting           string       `json:"greeting,omitempty"`
	CapabilitiesBefore []string     `json:"capabilities_before_login,omitempty"`
	CapabilitiesAfter  []string     `json:"capabilities_after_login,omitempty"`
	Mechanism          string       `json:"mechanism,omitempty"` // LOGIN, or the SASL mechanism of AUTHENTICATE
	Compressed         bool         `json:"compressed"`
	// Metadata contains the server's answers, without passwords.
	Metadata    []string `json:"metadata,omitempty"`
	ExpiresUnix int64    `json:"expires_unix,omitempty"`
}

// Certificate describes a TLS handshake and its certificate.
type Certificate struct {
	Version   string    `json:"version"`
	ALPN      string    `json:"alpn,omitempty"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Chain     int       `json:"chain"` // number of certificates sent
	Verified  bool      `json:"verified"`
	Error     string    `json:"error,omitempty"`
}

// Relay is the result for one address over one transport.
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
	// RelayToRelay is between two allocations, as for two callers on one server; Direct is between the probe's own address and the
	// relayed address, as for a caller on another server.
	RelayToRelay *Echo `json:"relay_to_relay,omitempty"`
	Direct       *Echo `json:"direct,omitempty"`
	// PathMTU is the size in bytes of the largest IP packet that gets through between here and the relay in both directions, for
	// UDP only. Nothing above a payload of 1400 bytes is tried.
	PathMTU int `json:"path_mtu,omitempty"`
	// Stage is where the attempt ended, empty if it succeeded: route, connect, tls, binding, challenge, allocate, relay.
	Stage string `json:"stage,omitempty"`
	Error string `json:"error,omitempty"`
	Code  int    `json:"error_code,omitempty"` // of the error response
	// RequestBytes and ResponseBytes are the sizes of a request without credentials and of its answer.
	RequestBytes  int `json:"unauthenticated_request_bytes,omitempty"`
	ResponseBytes int `json:"unauthenticated_response_bytes,omitempty"`
}

// Echo counts the packets that were sent to a peer and came back.
type Echo struct {
	Sent     int `json:"sent"`
	Received int `json:"received"`
	// The times are 0 if nothing came back. LargestBytes is 0 if only the size of voice was tried.
	MinMS        float64 `json:"rtt_min_ms,omitempty"`
	MedianMS     float64 `json:"rtt_median_ms,omitempty"`
	MaxMS        float64 `json:"rtt_max_ms,omitempty"`
	LargestBytes int     `json:"largest_bytes,omitempty"` // the largest payload, of up to 1400 bytes, that came back
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// add adds a check and returns whether it is not a failure. Its texts may contain text from servers, so they are made printable.
func (r *Report) add(id, subject string, status Status, summary, action string) bool {
	r.Checks = append(r.Checks, Check{ID: id, Subject: printable(subject), Status: status, Summary: printable(summary), Action: printable(action)})
	return status != Failure
}

// order is the order of the checks in a report. Earlier failures explain later ones: the first is the verdict.
var order = []string{
	conntrackID,
	"imap.dns", "imap.connect", "imap.tls", "imap.login", "imap.capabilities", "imap.compress", "imap.metadata",
	"value.parse", "value.host", "value.port", "value.form", "value.expiry", "value.ttl",
	"turn.dns", "turn.udp", "turn.credential", "turn.relayed_address", "turn.relay_to_relay", "turn.direct", "turn.packet_size", "turn.ipv4", "turn.ipv6",
	"turn.tcp", "turn.tls", "turn.ports", "turn.answer_size",
	"safety.anonymous", "safety.loopback", "safety.private", "safety.password", "safety.expired",
}

// unsafe contains the failures with which a call still connects.
var unsafe = map[string]bool{"safety.anonymous": true, "safety.loopback": true, "safety.private": true, "safety.password": true, "safety.expired": true}
