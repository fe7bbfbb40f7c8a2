package provision

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// quoted returns a string in HCL syntax.
func quoted(text string) string {
	return string(hclwrite.TokensForValue(cty.StringVal(text)).Bytes())
}

// list returns a list of strings in HCL syntax.
func list(texts []string) string {
	var all []string
	for _, text := range texts {
		all = append(all, quoted(text))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// addresses returns one address, or a list of several, in HCL syntax.
func addresses(addrs []netip.Addr) string {
	var texts []string
	for _, addr := range addrs {
		texts = append(texts, addr.String())
	}
	if len(texts) == 1 {
		return quoted(texts[0])
	}
	return list(texts)
}

// configuration returns the configuration of mailturn in front of an IMAP server.
func (p *planner) configuration(listen []string, upstream string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nendpoint \"imap\" \"imap\" {\n  listen = %s\n", list(listen))
	if len(p.others) > 0 {
		b.WriteString("  # The client's server name chooses; the first is for clients that send none.\n")
		for _, pair := range p.uses() {
			fmt.Fprintf(&b, "  tls {\n    cert = %s\n    key  = %s\n  }\n", quoted(pair.from.cert), quoted(pair.from.key))
		}
	}
	b.WriteString("  upstream {\n")
	fmt.Fprintf(&b, "    address        = %s\n    client_address = \"id\"\n  }\n}\n", quoted(upstream))
	return p.relayConfiguration() + b.String()
}

// relayConfiguration returns the top of the configuration and the relay.
func (p *planner) relayConfiguration() string {
	var b strings.Builder
	b.WriteString("# Written by \"mailturn setup\". Change what you like: \"mailturn reference\" prints every attribute, \"mailturn check-config\"\n")
	b.WriteString("# checks this file, and \"systemctl reload mailturn\" applies it.\n\n")
	fmt.Fprintf(&b, "hostname  = %s\nstate_dir = \"/var/lib/mailturn\"\n", quoted(p.Hostname))
	p.writeTLS(&b)

	port := func(scheme string, number uint16) string {
		return scheme + "://*:" + strconv.Itoa(int(number))
	}
	listen := []string{port("udp", p.Ports.TURN), port("tcp", p.Ports.TURN)}
	if p.encrypted() {
		listen = append(listen, port("tls", p.Ports.TLS), port("dtls", p.Ports.TLS))
	}
	fmt.Fprintf(&b, "\nendpoint \"turn\" \"turn\" {\n  listen      = %s\n  relay_ip    = %s\n", list(listen), addresses(p.relayIP))
	if len(p.relayBind) > 0 {
		fmt.Fprintf(&b, "  relay_bind  = %s\n", addresses(p.relayBind))
	}
	fmt.Fprintf(&b, "  relay_ports = %s\n}\n", quoted(p.Ports.Relayed))
	return b.String()
}

// encrypted reports whether the relay has a certificate. It has one unless the server has an address but no name.
func (p *planner) encrypted() bool { return p.cert != nil || p.name.Host != "" }

// writeTLS writes the block for the certificate.
func (p *planner) writeTLS(b *strings.Builder) {
	switch {
	case p.cert != nil:
		pair := p.uses()[0].from
		fmt.Fprintf(b, "\ntls {\n  cert = %s\n  key  = %s\n}\n", quoted(pair.cert), quoted(pair.key))
	case p.encrypted():
		fmt.Fprintf(b, "\ntls {\n  acme {\n    email          = %s\n    agree_to_terms = true\n", quoted(p.options.Email))
		if p.options.Directory != "" {
			fmt.Fprintf(b, "    directory      = %s\n", quoted(p.options.Directory))
		}
		if p.options.CAFile != "" {
			fmt.Fprintf(b, "    ca_file        = %s\n", quoted(p.options.CAFile))
		}
		b.WriteString("  }\n}\n")
	}
}
