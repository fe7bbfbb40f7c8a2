package directive

import (
	"cmp"
	"slices"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// irohEntry is the annotation in which clients look for the iroh relay.
const irohEntry = "/shared/vendor/deltachat/irohrelay"

// inside translates the block of an endpoint as the installers of maddy and Madmail write it:
//
//	iroh_relay_url URL                  entries { /shared/vendor/deltachat/irohrelay URL }
//	auto_logout DURATION                idle_timeout DURATION
//	proxy_protocol { trust NETWORK… }   proxy_protocol NETWORK…
//	relay_port_min N, relay_port_max M  relay_ports N-M
//
// Directives that have no effect here are dropped with a warning.
func (t *translation) inside(kind string, block []*directive) []*directive {
	var translated []*directive
	var low, high *directive
	var entries []*directive
	for _, d := range block {
		name := d.name.text
		switch {
		case name == "tls":
			d = t.tls(d)
		case t.remarked(kind, d, block):
			d = nil
		case name == "proxy_protocol" && d.hasBlock:
			d = t.proxyProtocol(d)
		case kind == "imap" && name == "auto_logout":
			d = d.renamed("idle_timeout")
		case kind == "imap" && name == "iroh_relay_url" && len(d.args) == 1 && !d.hasBlock:
			entries, d = append(entries, d.renamed(irohEntry)), nil
		case kind == "turn" && (name == "relay_port_min" || name == "relay_port_max") && len(d.args) == 1 && !d.hasBlock:
			bound := &low
			if name == "relay_port_max" {
				bound = &high
			}
			if *bound != nil {
				t.diags = append(t.diags, diagnostic.Redefined("Directive", name, d.name.rng, (*bound).name.rng))
			}
			*bound, d = d, nil
		}
		if d != nil {
			translated = append(translated, d)
		}
	}
	if low != nil || high != nil {
		translated = append(translated, relayPorts(low, high))
	}
	if len(entries) > 0 {
		translated = withEntries(translated, entries)
	}
	return translated
}

// renamed returns the directive under another name.
func (d *directive) renamed(name string) *directive {
	e := *d
	e.name.text = name
	return &e
}

// remarked reports whether d is a directive of maddy that is dropped with a warning. block contains it.
func (t *translation) remarked(kind string, d *directive, block []*directive) bool {
	name := d.name.text
	why := ""
	switch {
	case name == "debug" && (kind == "imap" || kind == "turn"):
		why = logging
	case kind == "turn" && name == "test_force_relay":
		why = "to test calls over the relay alone, let the client use no other way"
	case kind != "imap":
		return false
	case name == "io_debug" || name == "io_errors":
		why = logging
	case name == "sasl_login":
		why = "the mail server decides how clients log in"
	case name == "xchatmail":
		why = "the mail server offers XCHATMAIL, and mailturn passes it on"
	case slices.Contains(accounts, name):
		ours := slices.ContainsFunc(block, func(d *directive) bool { return d.name.text == "upstream" || d.name.text == "embedded" })
		if !ours {
			return false // an error, which tells what to do
		}
		why = "accounts and mail are those of the server in upstream or embedded"
	default:
		return false
	}
	t.ignore(d, why)
	return true
}

// accounts are the directives of an IMAP endpoint for the storage of accounts and mail.
var accounts = []string{"auth", "auth_map", "auth_map_normalize", "storage", "storage_map", "storage_map_normalize"}

// proxyProtocol translates maddy's form with a block.
func (t *translation) proxyProtocol(d *directive) *directive {
	e := *d
	e.hasBlock, e.block, e.args = false, nil, slices.Clone(d.args)
	for _, inner := range d.block {
		if inner.name.text != "trust" {
			t.diags = append(t.diags, diagnostic.WithHint(diagnostic.Errorf(inner.name.rng, "Unsupported directive",
				"%s in proxy_protocol is maddy's.", inner.name.text), "in mailturn TLS is part of the addresses: tls://…"))
			continue
		}
		e.args = append(e.args, inner.args...)
	}
	return &e
}

// withEntries adds entries to the first block of that name, or adds such a block.
func withEntries(block, entries []*directive) []*directive {
	for i, d := range block {
		if d.name.text == "entries" && d.hasBlock {
			all := *d
			all.block = slices.Concat(d.block, entries)
			block[i] = &all
			return block
		}
	}
	name := word{text: "entries", rng: entries[0].name.rng}
	return append(block, &directive{name: name, hasBlock: true, block: entries, end: entries[len(entries)-1].end})
}

// relayPorts combines the two ends, of which one may be nil, into one range. In Madmail, 0 means the default.
func relayPorts(low, high *directive) *directive {
	bound := func(d *directive, otherwise string) string {
		if d == nil || d.args[0].text == "0" {
			return otherwise
		}
		return d.args[0].text
	}
	first := cmp.Or(low, high)
	ports := word{text: bound(low, "49152") + "-" + bound(high, "65535"), rng: first.args[0].rng}
	return &directive{name: word{text: "relay_ports", rng: first.name.rng}, args: []word{ports}, end: ports.rng}
}
