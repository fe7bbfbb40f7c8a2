// Package publicip finds the public addresses of this machine: from its interfaces, the DNS, a STUN server, or the metadata service of
// a cloud.
package publicip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Kind is a kind of source.
type Kind string

// Kinds of sources.
const (
	Interface Kind = "interface" // the addresses from which this machine sends to the internet
	DNS       Kind = "dns"       // the addresses of a name
	STUN      Kind = "stun"      // what a server sees, RFC 8489 section 3
	Metadata  Kind = "metadata"  // what the cloud says, at 169.254.169.254
)

// stunPort is the default port of STUN, RFC 8489 section 8.
const stunPort = 3478

// Source is a source of addresses. It is comparable.
type Source struct {
	Kind Kind
	Host string // of DNS, empty for the default; of STUN
	Port uint16 // of STUN
}

// UnmarshalText accepts interface, dns, dns:NAME, stun:HOST, stun:HOST:PORT and metadata.
func (s *Source) UnmarshalText(text []byte) error {
	name, host, given := strings.Cut(string(text), ":")
	switch kind := Kind(name); {
	case (kind == Interface || kind == Metadata) && !given, kind == DNS && !given:
		*s = Source{Kind: kind}
	case kind == DNS && host != "" && !strings.ContainsAny(host, ":/ "):
		*s = Source{Kind: kind, Host: host}
	case kind == STUN && given:
		return s.unmarshalSTUN(host)
	default:
		return errors.New(`want "interface", "dns", "dns:NAME", "stun:HOST", "stun:HOST:PORT" or "metadata"`)
	}
	return nil
}

func (s *Source) unmarshalSTUN(hostPort string) error {
	host, text, err := net.SplitHostPort(hostPort)
	if err != nil {
		host, text = strings.Trim(hostPort, "[]"), strconv.Itoa(stunPort)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	_, notIP := netip.ParseAddr(host)
	if err != nil || port == 0 || host == "" || notIP != nil && strings.ContainsAny(host, ":/ ") {
		return fmt.Errorf("want stun:HOST or stun:HOST:PORT, not %q", "stun:"+hostPort)
	}
	*s = Source{Kind: STUN, Host: host, Port: uint16(port)}
	return nil
}

// String returns the source as it is configured.
func (s Source) String() string {
	switch {
	case s.Kind == STUN:
		return "stun:" + net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
	case s.Host != "":
		return string(s.Kind) + ":" + s.Host
	}
	return string(s.Kind)
}

// Local reports whether the source is this machine itself, which can be asked as often as necessary.
func (s Source) Local() bool { return s.Kind == Interface }
