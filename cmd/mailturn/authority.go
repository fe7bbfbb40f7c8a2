package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/acme"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
)

// pairs returns the certificates of each endpoint, to be changed in place.
func (s *setup) pairs() (all []*[]certs.Pair) {
	for i := range s.relays {
		all = append(all, &s.relays[i].TLS)
	}
	for i := range s.imaps {
		all = append(all, &s.imaps[i].TLS)
	}
	for i := range s.http {
		all = append(all, &s.http[i].TLS)
	}
	return all
}

// decodeACME takes together what the acme blocks of the file say, that of the top level first, and puts the files of their
// certificates in their place. It comes after link, because names that clients are told get a certificate.
func (s *setup) decodeACME(top *config.TLS) (diags hcl.Diagnostics) {
	var blocks []*config.ACME
	add := func(block *config.ACME) {
		if block != nil && !slices.Contains(blocks, block) {
			blocks = append(blocks, block)
		}
	}
	if top != nil {
		add(top.ACME)
	}
	for _, pairs := range s.pairs() {
		for _, pair := range *pairs {
			add(pair.ACME)
		}
	}
	if len(blocks) == 0 {
		return nil
	}
	settings, diags := acme.Decode(blocks)
	names := make(map[*config.ACME][]string)
	for _, block := range blocks {
		names[block] = block.Names.V
		if !block.Names.Set {
			known, namesDiags := s.knownNames(block)
			names[block], diags = known, append(diags, namesDiags...)
			for _, name := range known {
				if !slices.Contains(settings.Names, name) {
					settings.Names = append(settings.Names, name)
				}
			}
		}
	}
	diags = append(diags, s.chooseChallenge(&settings, blocks)...)
	diags = append(diags, settings.CheckWildcards()...)
	if s.stateDir == "" {
		return append(diags, config.WithHint(config.Errorf(blocks[0].Range, "No directory for certificates", "There is no state directory."), "set state_dir"))
	}
	settings.Dir = filepath.Join(s.stateDir, "acme")
	for _, relay := range s.relays {
		settings.Addresses = append(settings.Addresses, relay.RelayIP...)
	}
	for _, pairs := range s.pairs() {
		*pairs = issued(*pairs, settings.Dir, names)
	}
	s.acme = &settings
	return diags
}

// issued returns pairs with the files of each acme block instead of the block.
func issued(pairs []certs.Pair, dir string, names map[*config.ACME][]string) (all []certs.Pair) {
	for _, pair := range pairs {
		if pair.ACME == nil {
			all = append(all, pair)
			continue
		}
		for _, name := range names[pair.ACME] {
			file := acme.File(dir, strings.TrimSuffix(name, "."))
			all = append(all, certs.Pair{Cert: file, Key: file, Name: name})
		}
	}
	return all
}

// knownNames returns the names for an acme block that has none: those that clients are told for this file's endpoints.
func (s *setup) knownNames(block *config.ACME) (names []string, diags hcl.Diagnostics) {
	add := func(name string) {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if _, err := netip.ParseAddr(name); name == "" || err == nil || slices.Contains(names, name) {
			return
		}
		if diag := acme.CheckName(block.Range, name); diag != nil {
			diags = append(diags, config.WithHint(diag, "set names in the acme block"))
		}
		names = append(names, name)
	}
	add(s.hostname)
	if len(s.relays) > 0 {
		for _, told := range s.advertisements() {
			if told.Server.Set && !(told.inBlock && told.Secrets.Set) { // a block with a secret is about a relay elsewhere
				add(told.Server.V)
			}
		}
	}
	if len(names) == 0 {
		diags = append(diags, config.WithHint(config.Errorf(block.Range, "No name for the certificate",
			"The acme block has no names, and the file has no hostname."), `set hostname = "mail.example.org"`))
	}
	return names, diags
}

// chooseChallenge decides how the authority checks the names, if the file does not set it, and where the challenge is answered.
func (s *setup) chooseChallenge(settings *acme.Settings, blocks []*config.ACME) hcl.Diagnostics {
	encrypted := s.listensTLS()
	on443 := slices.IndexFunc(encrypted, func(a listen.Addr) bool { return a.Port == 443 })
	switch {
	case settings.Challenge == "" && on443 >= 0:
		settings.Challenge = acme.TLSALPN01
	case settings.Challenge == "":
		settings.Challenge = acme.HTTP01
	}
	if settings.Challenge != acme.TLSALPN01 {
		return nil
	}
	why := ""
	if on443 < 0 {
		why = s.pionOn443()
	}
	if why == "" && len(encrypted) == 0 {
		why = "tls-alpn-01 requires an endpoint that listens with TLS on TCP, and there is none."
	}
	if why != "" {
		i := slices.IndexFunc(blocks, func(b *config.ACME) bool { return b.Challenge.Set })
		return hcl.Diagnostics{config.WithHint(config.Errorf(blocks[i].Challenge.Range, "Challenge cannot be answered", "%s", why), `use challenge = "http-01"`)}
	}
	settings.Listen = encrypted[max(on443, 0)].HostPort()
	return nil
}

// pionOn443 says that a relay that cannot answer tls-alpn-01 has the port to which authorities connect, if one does.
func (s *setup) pionOn443() string {
	for _, relay := range s.relays {
		on443 := slices.ContainsFunc(relay.Listen, func(a listen.Addr) bool { return a.Scheme == "tls" && a.Port == 443 })
		if relay.Engine == turn.Pion && on443 {
			return fmt.Sprintf("The endpoint %q has port 443, and its engine, pion, cannot answer tls-alpn-01.", relay.Name)
		}
	}
	return ""
}

// listensTLS returns the addresses on which this process accepts TLS over TCP.
func (s *setup) listensTLS() (all []listen.Addr) {
	add := func(scheme string, addresses []listen.Addr) {
		for _, address := range addresses {
			if address.Scheme == scheme {
				all = append(all, address)
			}
		}
	}
	for _, relay := range s.relays {
		if relay.Engine != turn.Pion { // whose process does not know of challenges
			add("tls", relay.Listen)
		}
	}
	for _, server := range s.imaps {
		add("tls", server.Listen)
	}
	for _, server := range s.http {
		add("https", server.Listen)
	}
	return all
}
