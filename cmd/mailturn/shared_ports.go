package main

import (
	"log/slog"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
)

// decodeSharedPorts finds the ports that endpoints share. It comes after decodeACME, which names the certificates.
func (s *setup) decodeSharedPorts(blocks []config.SharedPort) (diags hcl.Diagnostics) {
	var users []shared.User
	add := func(u shared.User, addresses []listen.Addr, ranges []hcl.Range, pairs []certs.Pair) {
		for i, address := range addresses {
			if address.Scheme == "udp" || address.Scheme == "dtls" {
				continue
			}
			u.Addr, u.Range, u.Pairs = address, ranges[i], pairs
			users = append(users, u)
		}
	}
	for _, relay := range s.relays {
		add(shared.User{Protocol: shared.TURN, Name: relay.Name, Foreign: relay.Engine == turn.Pion}, relay.Listen, relay.ListenRanges, relay.TLS)
	}
	for _, server := range s.imaps {
		add(shared.User{Protocol: shared.IMAP, Name: server.Name}, server.Listen, server.ListenRanges, server.TLS)
	}
	for _, server := range s.http {
		add(shared.User{Protocol: shared.HTTP, Name: server.Name}, server.Listen, server.ListenRanges, server.TLS)
	}
	s.ports, diags = shared.Decode(blocks, users)
	return diags
}

// newPorts returns the shared ports of the configuration.
func (s *setup) newPorts(logger *slog.Logger) (ports shared.Ports) {
	for _, c := range s.ports {
		ports = append(ports, shared.New(c, logger))
	}
	return ports
}

// sharePorts makes the endpoints use shared ports.
func (s *setup) sharePorts(ports shared.Ports) {
	for i := range s.relays {
		s.relays[i].Shared = ports
	}
	for i := range s.imaps {
		s.imaps[i].Shared = ports
	}
	for i := range s.http {
		s.http[i].Shared = ports
	}
}
