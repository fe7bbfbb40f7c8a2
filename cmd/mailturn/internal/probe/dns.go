package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/resolver"
)

// lookUp resolves a name for a check, and adds the result to the report.
func (r *run) lookUp(ctx context.Context, id, host string) []netip.Addr {
	r.Progress("looking up " + host)
	ctx, cancel := context.WithTimeout(ctx, 4*r.Depth.patience())
	defer cancel()
	answer, err := r.Resolver.Lookup(ctx, host)
	r.report.Names = append(r.report.Names, Name{Name: host, Source: string(answer.Source), IPv4: family(answer.IPv4), IPv6: family(answer.IPv6)})
	if err != nil {
		r.report.add(id, host, Failure, fmt.Sprintf("%s does not resolve: %v.", quoted(host), cause(err)), dnsAction(host, err))
		return nil
	}
	if answer.Source == resolver.FromLiteral {
		r.report.add(id, host, OK, host+" is an address, not looked up.", "")
		return answer.Addrs()
	}
	var parts []string
	for _, f := range []struct {
		resolver.Family
		record string
	}{{answer.IPv4, "A"}, {answer.IPv6, "AAAA"}} {
		switch {
		case len(f.Addresses) > 0:
			parts = append(parts, f.record+" "+addresses(f.Family))
		case errors.Is(f.Err, resolver.ErrNoData):
			parts = append(parts, "no "+f.record)
		default:
			r.report.add(id, host, Warning, fmt.Sprintf("%s has addresses, but its %s could not be looked up: %v.", host, f.record, cause(f.Err)),
				"Clients wait for that answer each time: fix the name's DNS servers.")
		}
	}
	summary := host + ": " + strings.Join(parts, "; ")
	if chain := answer.IPv4.Chain; len(chain) > 0 {
		summary += fmt.Sprintf("; via %s", chain[len(chain)-1].To)
	}
	if answer.Source == resolver.FromHosts {
		summary += "; from the hosts file of this machine"
	} else {
		summary += "; " + ms(milliseconds(max(answer.IPv4.Duration, answer.IPv6.Duration)))
	}
	r.report.add(id, host, OK, summary+".", "")
	return answer.Addrs()
}

// cause returns the error without the question, which is the check's subject.
func cause(err error) error {
	if e, ok := errors.AsType[*resolver.Error](err); ok {
		if e.Server.IsValid() {
			return fmt.Errorf("%w, asked %v", e.Err, e.Server)
		}
		return e.Err
	}
	return err
}

func dnsAction(host string, err error) string {
	switch {
	case errors.Is(err, resolver.ErrNXDOMAIN), errors.Is(err, resolver.ErrNoData):
		return "Add an A record, and an AAAA record if the machine has IPv6, for " + host + "."
	case errors.Is(err, resolver.ErrName) && strings.HasPrefix(host, "["):
		return "Remove the brackets: clients look the whole up as a name, which does not exist."
	case errors.Is(err, resolver.ErrName):
		return "Write a host name or an IPv4 address there."
	case errors.Is(err, resolver.ErrServerFailure):
		return "Check the name's DNS servers, and DNSSEC if the zone is signed: a broken signature causes SERVFAIL."
	case errors.Is(err, resolver.ErrLoop):
		return "Point the CNAME at a name with an address."
	default:
		return "Check whether DNS works at all on this machine, or ask another server with --dns."
	}
}

func quoted(host string) string {
	switch {
	case host == "":
		return "An empty host name"
	case len(host) > 255: // longer than any name in DNS
		return host[:64] + "…"
	}
	return host
}

func addresses(f resolver.Family) string {
	var parts []string
	for i, a := range f.Addresses {
		if i == 3 && len(f.Addresses) > 4 {
			parts = append(parts, fmt.Sprintf("and %d more", len(f.Addresses)-i))
			break
		}
		text := a.Addr.String()
		if a.TTL > 0 {
			text += fmt.Sprintf(" (TTL %s)", short(a.TTL))
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func family(f resolver.Family) Family {
	out := Family{DurationMS: milliseconds(f.Duration)}
	for _, c := range f.Chain {
		out.Chain = append(out.Chain, Alias{c.From, c.To, int(c.TTL / time.Second)})
	}
	for _, a := range f.Addresses {
		out.Addresses = append(out.Addresses, Address{a.Addr.String(), int(a.TTL / time.Second)})
	}
	if f.Err != nil {
		out.Error = f.Err.Error()
	}
	if f.Server.IsValid() {
		out.Server = f.Server.String()
	}
	return out
}

// short writes a duration in its two largest units.
func short(d time.Duration) string {
	d = d.Abs()
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd %dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return fmt.Sprintf("%ds", d/time.Second)
	}
}
