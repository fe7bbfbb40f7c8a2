package acme

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/mailturn/mailturn/framework/resolver"
)

// A refusal is the reason for a missing certificate, worded for the operator.
type refusal struct {
	kind   string // identifies the problem: the text may differ each time
	text   string
	costly bool // the authority has counted the attempt
}

// Kinds of refusals other than the authority's problem types.
const (
	kindPort        = "port"
	kindDNS         = "dns"
	kindClock       = "clock"
	kindRateLimit   = "rateLimited"
	kindTerms       = "terms"
	kindUnreachable = "unreachable"
	kindOther       = "other"
)

func (r refusal) Error() string { return r.text }

// portError means that challenges cannot be answered on an address.
type portError struct {
	listen string
	err    error
}

func (e *portError) Error() string { return fmt.Sprintf("listen on %s: %v", e.listen, e.err) }

func (e *portError) Unwrap() error { return e.err }

// clockError means that the clock of this machine must be wrong.
type clockError struct {
	now time.Time
	err error
}

func (e *clockError) Error() string {
	return fmt.Sprintf("%v, and the clock of this machine says %s: set it", e.err, e.now.UTC().Format(time.RFC3339))
}

// explain finds the cause of an error.
func (k *keeper) explain(ctx context.Context, err error) refusal {
	if e, ok := errors.AsType[*portError](err); ok {
		return refusal{kind: kindPort, text: e.explain()}
	}
	if e, ok := errors.AsType[*clockError](err); ok {
		return refusal{kindClock, e.Error(), true}
	}
	if e, ok := errors.AsType[*updateError](err); ok { // without what certmagic puts before it
		return refusal{kind: kindDNS, text: e.Error()}
	}
	if errors.Is(err, errTerms) {
		return refusal{kind: kindTerms, text: err.Error()}
	}
	if problem, ok := errors.AsType[acme.Problem](err); ok {
		return k.explainProblem(ctx, problem)
	}
	authority := k.settings.Directory
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return refusal{kind: kindClock, text: (&clockError{k.now(), fmt.Errorf("the certificate of %s is good from %s to %s", authority,
			e.Cert.NotBefore.UTC().Format(time.RFC3339), e.Cert.NotAfter.UTC().Format(time.RFC3339))}).Error()}
	}
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return refusal{kind: kindUnreachable, text: fmt.Sprintf("%s: %v: if it is a private authority, name its root certificate with ca_file", authority, e)}
	}
	if e, ok := errors.AsType[net.Error](err); ok {
		cause := error(e)
		if op, ok := errors.AsType[*net.OpError](err); ok {
			cause = op
		}
		return refusal{kind: kindUnreachable, text: fmt.Sprintf("certificate authority %s cannot be reached: %v", authority, cause)}
	}
	return refusal{kind: kindOther, text: err.Error()}
}

// explain names the program that uses the port.
func (e *portError) explain() string {
	address := strings.TrimPrefix(e.listen, ":")
	_, port, _ := net.SplitHostPort(e.listen)
	switch {
	case errors.Is(e.err, syscall.EADDRINUSE):
		return fmt.Sprintf("port %s is in use by %s: stop it, or let it forward /.well-known/acme-challenge/ to another address and set http_listen to that, or use dns-01",
			address, cmp.Or(portOwner(port), "another program"))
	case errors.Is(e.err, syscall.EACCES):
		return fmt.Sprintf("port %s requires root or CAP_NET_BIND_SERVICE, which mailturn.service grants", address)
	case errors.Is(e.err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("this machine does not have the address of http_listen, %s", e.listen)
	}
	return e.Error()
}

// explainProblem adds advice to a problem of the authority (RFC 8555 section 6.7).
func (k *keeper) explainProblem(ctx context.Context, problem acme.Problem) refusal {
	if len(problem.Subproblems) == 1 {
		problem = problem.Subproblems[0].Problem
	}
	r := refusal{kind: strings.TrimPrefix(problem.Type, acme.ProblemTypeNamespace), costly: true}
	hint := ""
	switch problem.Type {
	case acme.ProblemTypeRateLimited:
		hint = "wait; for tests, use the authority's staging directory"
	case acme.ProblemTypeCAA:
		hint = "the CAA records of " + k.domain() + ", or of a domain above it, must allow this authority"
	case acme.ProblemTypeExternalAccountRequired:
		hint = "get an account from the authority, and set eab_key_id and eab_key"
	case acme.ProblemTypeUserActionRequired:
		hint = "read the authority's requirements at " + cmp.Or(problem.Instance, "its web site")
	case acme.ProblemTypeRejectedIdentifier, acme.ProblemTypeUnsupportedIdentifier:
		hint = "the authority does not issue certificates for this name"
	case acme.ProblemTypeConnection, acme.ProblemTypeUnauthorized, acme.ProblemTypeIncorrectResponse, acme.ProblemTypeDNS, acme.ProblemTypeTLS:
		hint = k.whereNameLeads(ctx)
	}
	r.text = fmt.Sprintf("the certificate authority refuses %s (%s): %s", k.name, r.kind, strings.TrimSpace(problem.Detail))
	if hint != "" {
		r.text += ": " + hint
	}
	return r
}

// domain is the name that is in DNS.
func (k *keeper) domain() string { return strings.TrimPrefix(k.name, wildcard) }

// whereNameLeads compares the name's addresses in DNS with those of this machine.
func (k *keeper) whereNameLeads(ctx context.Context) string {
	if k.settings.Challenge == DNS01 {
		return "the TXT record of _acme-challenge." + k.domain() + " was not what the authority expects: see whether its name servers get what " +
			k.settings.DNS.Server + " has"
	}
	found, err := k.lookup(ctx, k.name)
	if errors.Is(err, resolver.ErrNXDOMAIN) || errors.Is(err, resolver.ErrNoData) {
		return k.name + " is not in DNS: add A and AAAA records with the addresses of this machine"
	} else if err != nil || len(found) == 0 {
		return ""
	}
	port := map[Challenge]string{HTTP01: "80", TLSALPN01: "443"}[k.settings.Challenge]
	ours := k.settings.Addresses
	public := len(ours) > 0
	interfaces, _ := net.InterfaceAddrs()
	for _, address := range interfaces {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			ours = append(ours[:len(ours):len(ours)], prefix.Addr().Unmap())
			public = public || prefix.Addr().IsGlobalUnicast() && !prefix.Addr().IsPrivate()
		}
	}
	var elsewhere []string
	for _, address := range found {
		if !slices.Contains(ours, address.Unmap()) {
			elsewhere = append(elsewhere, address.String())
		}
	}
	switch {
	case len(elsewhere) > 0 && public:
		return fmt.Sprintf("DNS has %s for %s, which is not an address of this machine: correct the record", strings.Join(elsewhere, " and "), k.name)
	case len(elsewhere) > 0:
		return fmt.Sprintf("DNS has %s for %s: if that is the router of this machine, it must forward port %s", strings.Join(elsewhere, " and "), k.name, port)
	}
	return fmt.Sprintf("DNS has the address of this machine for %s, so a firewall blocks port %s, or another program answers there", k.name, port)
}
