package main

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/framework/acme"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
)

// bound is a listening address of an endpoint, or that of an acme block.
type bound struct {
	addr     listen.Addr
	at       hcl.Range
	endpoint string // in words
}

// acmeBlock is the endpoint of an address on which challenges are answered.
const acmeBlock = "the acme block"

// bound returns the listening addresses of all endpoints, and then that for http-01.
func (s *setup) bound() (all []bound) {
	add := func(kind, name string, addresses []listen.Addr, ranges []hcl.Range) {
		for i, addr := range addresses {
			all = append(all, bound{addr, ranges[i], fmt.Sprintf("endpoint %s %q", kind, name)})
		}
	}
	for _, relay := range s.relays {
		add("turn", relay.Name, relay.Listen, relay.ListenRanges)
	}
	for _, server := range s.imaps {
		add("imap", server.Name, server.Listen, server.ListenRanges)
	}
	for _, server := range s.http {
		add("http", server.Name, server.Listen, server.ListenRanges)
	}
	if s.acme != nil && s.acme.Challenge == acme.HTTP01 {
		var addr listen.Addr
		if err := addr.UnmarshalText([]byte("http://" + s.acme.Listen)); err == nil { // otherwise reported already
			all = append(all, bound{addr, s.acme.ListenRange, acmeBlock})
		}
	}
	return all
}

// checkOverlaps finds addresses that the system would refuse, because another one of the file has the port.
func (s *setup) checkOverlaps() (diags hcl.Diagnostics) {
	var open []bound
	for _, b := range s.bound() {
		at := slices.IndexFunc(open, func(other bound) bool { return b.overlaps(other, s.ports) })
		if at < 0 {
			open = append(open, b)
			continue
		}
		diags = append(diags, config.WithHint(config.Errorf(b.at, "Address overlaps with another one",
			"%v of %s overlaps with %v of %s.", b.addr, b.endpoint, open[at].addr, open[at].endpoint), b.remedy(open[at])))
	}
	return diags
}

// overlaps reports whether two addresses require two sockets that the system does not allow at the same time: those of one port, if
// one of them is for every address of the machine. It is so whatever the families are, because package net binds 0.0.0.0 and [::] to
// both.
func (b bound) overlaps(other bound, ports []shared.Config) bool {
	switch {
	case b.addr.Port == 0 || b.addr.Port != other.addr.Port || b.packets() != other.packets():
		return false
	case b.addr.SameSocket(other.addr):
		return b.endpoint != other.endpoint && !slices.ContainsFunc(ports, func(c shared.Config) bool { return !b.packets() && c.Serves(b.addr) })
	}
	return b.addr.Unspecified() || other.addr.Unspecified()
}

// packets reports whether the address is for UDP.
func (b bound) packets() bool { return b.addr.Scheme == "udp" || b.addr.Scheme == "dtls" }

// remedy says what to do about an overlap.
func (b bound) remedy(other bound) string {
	if b.endpoint == acmeBlock {
		return `give the endpoint another port, or use challenge = "tls-alpn-01" or "dns-01"`
	}
	encrypted := func(a listen.Addr) bool { return a.Scheme == "tls" || a.Scheme == "https" }
	switch {
	case b.endpoint == other.endpoint:
		return "remove one of them, or give it another port"
	case encrypted(b.addr) && encrypted(other.addr):
		return "write the same address in both to share the port"
	}
	return "give one of them another port"
}
