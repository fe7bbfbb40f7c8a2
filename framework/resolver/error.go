package resolver

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/miekg/dns"
)

// The values of Error.Err, for errors.Is.
var (
	ErrNXDOMAIN      = errors.New("the name does not exist (NXDOMAIN)")
	ErrNoData        = errors.New("the name has no address of this kind")
	ErrServerFailure = errors.New("the DNS server failed (SERVFAIL)")
	ErrRefused       = errors.New("the DNS server refused to answer (REFUSED)")
	ErrTimeout       = errors.New("no DNS server answered in time")
	ErrUnreachable   = errors.New("no DNS server could be reached")
	ErrLoop          = errors.New("the CNAMEs form a loop, or there are too many")
	ErrName          = errors.New("not a host name")
	ErrNoServer      = errors.New("no DNS server is configured")
)

// Error is the error of a lookup that found nothing.
type Error struct {
	Name   string
	Type   uint16         // dns.TypeA or dns.TypeAAAA; 0 for both
	Server netip.AddrPort // who was asked last; may be invalid
	Err    error          // one of the above
	Cause  error          // of ErrTimeout and ErrUnreachable
}

func (e *Error) Error() string {
	text := "look up " + e.Name
	if e.Type != 0 {
		text += " " + dns.TypeToString[e.Type]
	}
	text += ": " + e.Err.Error()
	if e.Server.IsValid() {
		text += fmt.Sprintf(", server %v", e.Server)
	}
	return text
}

// Unwrap returns Err and Cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}
