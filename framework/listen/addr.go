// Package listen parses the listening addresses of the configuration: SCHEME://HOST:PORT.
package listen

import (
	"encoding"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Addr is one listening address, such as tls://0.0.0.0:993.
type Addr struct {
	// Scheme is in lower case; the endpoint decides which ones it accepts.
	Scheme string
	// Host is an IP address without brackets, a host name that is looked up when the socket is bound, or empty for every
	// address of the machine, IPv4 and IPv6.
	Host string
	Port uint16
}

var _ encoding.TextUnmarshaler = (*Addr)(nil)

// UnmarshalText parses SCHEME://HOST:PORT. HOST may be an IPv4 address, an IPv6 address in brackets, a host name, or empty or "*",
// which stand for every address of the machine, IPv4 and IPv6. PORT is 0 to 65535; with 0 the system chooses a free port, for
// tests. The error says what is accepted, and does not repeat the text.
func (a *Addr) UnmarshalText(text []byte) error {
	scheme, rest, found := strings.Cut(string(text), "://")
	if !found || scheme == "" {
		return fmt.Errorf("no scheme: want SCHEME://HOST:PORT, such as tcp://0.0.0.0:%s", portOf(string(text)))
	}
	host, port, err := net.SplitHostPort(rest)
	if addrErr, ok := errors.AsType[*net.AddrError](err); ok {
		return fmt.Errorf("%s: want SCHEME://HOST:PORT, an IPv6 address in brackets", addrErr.Err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("port %q: want a number from 1 to 65535", port)
	}
	if host == "*" {
		host = ""
	}
	if strings.ContainsAny(host, "/?# ") {
		return fmt.Errorf("host %q: want an IP address or a host name", host)
	}
	*a = Addr{strings.ToLower(scheme), host, uint16(number)}
	return nil
}

// portOf guesses the port that was meant in an address without a scheme.
func portOf(text string) string {
	_, port, err := net.SplitHostPort(text)
	if err != nil || port == "" {
		return "PORT"
	}
	return port
}

// HostPort returns the address in the form of net.Listen.
func (a Addr) HostPort() string {
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// String returns SCHEME://HOST:PORT.
func (a Addr) String() string { return a.Scheme + "://" + a.HostPort() }

// Unspecified reports whether the address means every address of the machine, of one family or of both.
func (a Addr) Unspecified() bool {
	if a.Host == "" {
		return true
	}
	ip, err := netip.ParseAddr(a.Host)
	return err == nil && ip.IsUnspecified()
}

// SameSocket reports whether a socket bound to a, which must not have port 0, receives what is sent to b over the same protocol.
// 0.0.0.0 is the same as [::]: package net binds both to the addresses of both families.
func (a Addr) SameSocket(b Addr) bool {
	return a.Port == b.Port && (a.Host == b.Host || a.Unspecified() && b.Unspecified())
}

// Loopback reports whether only programs on this machine can reach the address.
func (a Addr) Loopback() bool {
	ip, err := netip.ParseAddr(a.Host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(a.Host, "localhost")
}

// OnLoopback reports whether only programs on this machine can reach a listener on addrs, which must not be empty.
func OnLoopback(addrs []Addr) bool {
	return len(addrs) > 0 && !slices.ContainsFunc(addrs, func(a Addr) bool { return !a.Loopback() })
}
