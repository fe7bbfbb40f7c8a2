package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/acme"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/resolver"
	"github.com/mailturn/mailturn/turnsrv/peer"
)

// lookUpTimeout bounds all lookups of check-config together. A reload waits for them.
const lookUpTimeout = 3 * time.Second

// examination compares a configuration without errors with its environment: DNS, certificates, the machine.
type examination struct {
	file   *config.File
	setup  *setup
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	kernel kernelPathSystem
}

// lookUp asks only DNS for the addresses of a host, because clients elsewhere do not have this machine's /etc/hosts.
func lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	system, err := resolver.System()
	if err != nil {
		return nil, err
	}
	system.Hosts = nil
	answer, err := system.Lookup(ctx, host)
	return answer.Addrs(), err
}

// examine returns warnings. It ignores endpoints that listen only on loopback, such as those of a demo.
func (x *examination) examine(ctx context.Context) (diags hcl.Diagnostics) {
	for i := range x.setup.relays {
		diags = append(diags, x.setup.relays[i].CheckDetected()...)
	}
	if x.onLoopback() {
		return diags
	}
	names := x.namesInUse()
	diags = append(diags, x.checkNames(ctx, names)...)
	diags = append(diags, x.checkClientAddresses()...)
	diags = append(diags, x.checkIssued(time.Now())...)
	diags = append(diags, x.checkKernelPath(ctx)...)
	return append(diags, x.checkCertificates()...)
}

// checkIssued warns about certificates of an authority that should have been renewed by now.
func (x *examination) checkIssued(now time.Time) (diags hcl.Diagnostics) {
	if x.setup.acme == nil {
		return nil
	}
	for _, name := range x.setup.acme.Names {
		file := acme.File(x.setup.acme.Dir, name)
		certificate, err := certs.ReadPair(certs.Pair{Cert: file, Key: file})
		if err != nil {
			continue // not issued yet, or not readable by this user
		}
		lifetime := certificate.Leaf.NotAfter.Sub(certificate.Leaf.NotBefore)
		if phrase := certs.Expiry(certificate.Leaf, now, certs.Soon(lifetime)); phrase != "" {
			diags = append(diags, config.WithHint(config.Warnf(x.setup.acme.Range, "Certificate must be renewed", "%s %s.", file, phrase),
				"the log says why mailturn does not obtain a new one"))
		}
	}
	return diags
}

// checkClientAddresses warns about IMAP servers that are not told the addresses of their clients.
func (x *examination) checkClientAddresses() (diags hcl.Diagnostics) {
	for _, server := range x.setup.imaps {
		if server.Upstream != nil && !server.Upstream.Undecided.Empty() {
			diags = append(diags, config.WithHint(config.Warnf(server.Upstream.Undecided, "All clients share one address",
				"The IMAP server sees all clients at mailturn's address: while one guesses passwords, it delays or bans all of them."),
				`set client_address = "id" and add what "mailturn export dovecot" prints to Dovecot; "none" keeps it as it is`))
		}
	}
	return diags
}

func (x *examination) onLoopback() bool {
	var all []listen.Addr
	for _, relay := range x.setup.relays {
		all = append(all, relay.Listen...)
	}
	for _, server := range x.setup.imaps {
		all = append(all, server.Listen...)
	}
	for _, server := range x.setup.http {
		all = append(all, server.Listen...)
	}
	return listen.OnLoopback(all)
}

// A nameInUse is a host name that clients are told, or by which they reach the server.
type nameInUse struct {
	attribute, host string
	rng             hcl.Range
}

// namesInUse returns each host once, where the file first names it.
func (x *examination) namesInUse() (names []nameInUse) {
	add := func(attribute string, v config.Value[string]) {
		if v.Set && v.V != "" && !slices.ContainsFunc(names, func(n nameInUse) bool { return n.host == v.V }) {
			names = append(names, nameInUse{attribute, v.V, v.Range})
		}
	}
	add("hostname", x.file.Hostname)
	for _, told := range x.setup.advertisements() {
		add("turn_server", told.Server)
	}
	return names
}

// checkNames looks up all names concurrently.
func (x *examination) checkNames(ctx context.Context, names []nameInUse) hcl.Diagnostics {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	found := make([]*hcl.Diagnostic, len(names))
	var looking sync.WaitGroup
	for i, name := range names {
		looking.Go(func() { found[i] = x.checkName(ctx, name) })
	}
	looking.Wait()
	return slices.DeleteFunc(found, func(d *hcl.Diagnostic) bool { return d == nil })
}

func (x *examination) checkName(ctx context.Context, name nameInUse) *hcl.Diagnostic {
	if addr, err := netip.ParseAddr(name.host); err == nil {
		return unreachable(name, []netip.Addr{addr}, "is")
	}
	if host := strings.ToLower(strings.TrimSuffix(name.host, ".")); host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return config.WithHint(config.Warnf(name.rng, "Name resolves to each client's own machine",
			"%s is %s, which is each client's own machine (RFC 6761 section 6.3).", name.attribute, name.host), "use the name by which clients elsewhere reach this server")
	}
	addrs, err := x.lookup(ctx, name.host)
	switch {
	case err == nil:
		return unreachable(name, addrs, "has")
	case errors.Is(err, resolver.ErrNXDOMAIN) || errors.Is(err, resolver.ErrNoData):
		return config.WithHint(config.Warnf(name.rng, "Name is not in DNS", "%s is %s: %v.", name.attribute, name.host, err),
			"add A and AAAA records with the addresses of the server")
	default:
		return config.Warnf(name.rng, "Name was not looked up", "%s is %s: %v.", name.attribute, name.host, err)
	}
}

// unreachable warns if none of the addresses of a name is public.
func unreachable(name nameInUse, addrs []netip.Addr, verb string) *hcl.Diagnostic {
	var all []string
	for _, addr := range addrs {
		special, ok := peer.SpecialPurpose(addr.Unmap())
		if !ok {
			return nil
		}
		all = append(all, fmt.Sprintf("%v, %v", addr, special))
	}
	if verb == "has" {
		return config.WithHint(config.Warnf(name.rng, "Server cannot be reached by its name", "%s is %s, for which DNS has only %s.",
			name.attribute, name.host, strings.Join(all, ", and ")), "put the public addresses into the A and AAAA records")
	}
	return config.WithHint(config.Warnf(name.rng, "Server cannot be reached by its address", "%s is %s.", name.attribute, all[0]), "use the public address")
}

// checkCertificates warns about names that clients use over TLS and that no certificate of the endpoint has.
func (x *examination) checkCertificates() (diags hcl.Diagnostics) {
	hostname := nameInUse{"hostname", x.file.Hostname.V, x.file.Hostname.Range}
	for i := range x.setup.relays {
		relay := &x.setup.relays[i]
		if len(relay.Ports("tls", "dtls")) == 0 {
			continue
		}
		names := []nameInUse{}
		for _, realm := range relay.UserRealms {
			for _, name := range realm.Names {
				names = append(names, nameInUse{"a name of user_realm", name, relay.Range})
			}
		}
		if i == 0 {
			names = append(names, x.toldOfTLS(hostname)...)
		} else {
			names = append(names, hostname)
		}
		diags = append(diags, lacking(names, relay.TLS)...)
	}
	for _, server := range x.setup.imaps {
		diags = append(diags, lacking([]nameInUse{hostname}, server.TLS)...)
	}
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int { return strings.Compare(a.Detail, b.Detail) })
	return slices.CompactFunc(diags, func(a, b *hcl.Diagnostic) bool { return a.Detail == b.Detail })
}

// toldOfTLS returns the hosts at which clients are told to use TURN over TLS with the relay of the file: the hostname if no
// endpoint tells them another one.
func (x *examination) toldOfTLS(hostname nameInUse) (names []nameInUse) {
	told := false
	for _, c := range x.setup.advertisements() {
		if c.Server.V == "" || c.inBlock && c.Secrets.Set { // a block with a secret is about a relay elsewhere
			continue
		}
		told = true
		if c.TLSPort.V != 0 && c.Server.Set {
			names = append(names, nameInUse{"turn_server", c.Server.V, c.Server.Range})
		} else if c.TLSPort.V != 0 {
			names = append(names, hostname)
		}
	}
	if !told {
		names = append(names, hostname)
	}
	return names
}

// lacking warns about names for which there is no certificate among pairs. Without pairs a self-signed one is made, which has been
// reported.
func lacking(names []nameInUse, pairs []certs.Pair) (diags hcl.Diagnostics) {
	if len(pairs) == 0 {
		return nil
	}
	for _, name := range names {
		if name.host == "" {
			continue
		}
		var others, files []string
		found := false
		for _, pair := range pairs {
			certificate, err := certs.ReadPair(pair)
			switch {
			case err != nil && pair.Name != "": // it has not been issued yet
				found = found || strings.EqualFold(strings.TrimSuffix(name.host, "."), strings.TrimSuffix(pair.Name, "."))
				files, others = append(files, "the acme block"), append(others, pair.Name)
				continue
			case err != nil:
				return nil // it has changed since it was read
			}
			found = found || certificate.Leaf.VerifyHostname(name.host) == nil
			files = append(files, pair.Cert)
			others = append(others, certs.Names(certificate.Leaf)...)
		}
		if !found {
			diags = append(diags, config.WithHint(config.Warnf(name.rng, "Certificate lacks a name", "%s is %s, and %s is for %s: clients refuse it.",
				name.attribute, name.host, strings.Join(files, " or "), strings.Join(others, ", ")), "get a certificate that includes the name"))
		}
	}
	return diags
}
