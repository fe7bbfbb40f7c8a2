package probe

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/mailturn/mailturn/imapext/discovery"
)

// Kind is the kind of a target.
type Kind int

const (
	IMAP Kind = iota // an IMAP server, which names the relay
	TURN             // a relay
	Line             // a metadata value, as clients get it
)

// Transport is a transport protocol to the relay.
type Transport string

// Transports.
const (
	UDP Transport = "udp"
	TCP Transport = "tcp"
	TLS Transport = "tls"
)

// Target is the target of a probe.
type Target struct {
	Kind Kind
	Host string
	Port uint16
	// Security and Username belong to an IMAP target.
	Security discovery.Security
	Username string
	// Transports belong to a TURN target.
	Transports []Transport

	line string // contains a password
	text string
}

// String returns the target without a password.
func (t Target) String() string { return t.text }

// GoString returns the same as String.
func (t Target) GoString() string { return t.text }

// ParseTarget reads imaps://USER@HOST[:PORT], imap://USER@HOST[:PORT] (STARTTLS), turn:HOST[:PORT][?transport=udp|tcp] and
// turns:HOST[:PORT] (RFC 7065), or a metadata value HOST:PORT:EXPIRY:PASSWORD. A value that core would refuse is a valid target:
// the refusal is a finding.
func ParseTarget(s string) (Target, error) {
	if _, err := discovery.ParseValue(s); err == nil {
		return lineTarget(s), nil
	}
	scheme, rest, _ := strings.Cut(s, ":")
	switch strings.ToLower(scheme) {
	case "imap", "imaps":
		return imapTarget(s)
	case "turn", "turns":
		return turnTarget(strings.ToLower(scheme), rest)
	}
	if strings.Count(s, ":") < 2 {
		return Target{}, fmt.Errorf("%q is not a target: want imaps://USER@HOST, turn:HOST:PORT, or a metadata line HOST:PORT:EXPIRY:PASSWORD", s)
	}
	return lineTarget(s), nil
}

func lineTarget(s string) Target {
	text := "a metadata line that does not parse"
	if v, err := discovery.ParseValue(s); err == nil {
		text = v.String()
	}
	return Target{Kind: Line, line: s, text: text}
}

func imapTarget(s string) (Target, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Target{}, errors.New("the URL does not parse: write @ in a user name as %40") // err would contain all of it
	}
	if _, given := u.User.Password(); given {
		return Target{}, errors.New("a password in the URL can be seen by every user of this machine: use --password-file or MAILTURN_PASSWORD")
	}
	t := Target{Kind: IMAP, Host: u.Hostname(), Port: 993, Username: u.User.Username()}
	if u.Scheme == "imap" {
		t.Port, t.Security = 143, discovery.StartTLS
	}
	if t.Host == "" || t.Username == "" {
		return Target{}, fmt.Errorf("%q: want %s://USER@HOST, @ in USER written as %%40", s, u.Scheme)
	}
	if u.Port() != "" {
		if t.Port, err = parsePort(u.Port()); err != nil {
			return Target{}, err
		}
	}
	t.text = (&url.URL{Scheme: u.Scheme, User: url.User(t.Username), Host: u.Host}).String()
	return t, nil
}

func turnTarget(scheme, rest string) (Target, error) {
	t := Target{Kind: TURN, Port: 3478, Transports: []Transport{UDP, TCP}, text: scheme + ":" + rest}
	if scheme == "turns" {
		t.Port, t.Transports = 5349, []Transport{TLS}
	}
	address, query, asked := strings.Cut(rest, "?")
	switch {
	case asked && query == "transport=udp" && scheme == "turn":
		t.Transports = []Transport{UDP}
	case asked && query == "transport=tcp":
		t.Transports = t.Transports[len(t.Transports)-1:]
	case asked:
		return Target{}, fmt.Errorf("%q: want ?transport=udp or ?transport=tcp, turns: over tcp only", query)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), ""
	}
	if port != "" {
		if t.Port, err = parsePort(port); err != nil {
			return Target{}, err
		}
	}
	if host == "" || strings.ContainsAny(host, "/@[]") {
		return Target{}, fmt.Errorf("%q: want %s:HOST:PORT, an IPv6 address in brackets", t.text, scheme)
	}
	t.Host = host
	return t, nil
}

func parsePort(s string) (uint16, error) {
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("port %q: want a number from 1 to 65535", s)
	}
	return uint16(port), nil
}
