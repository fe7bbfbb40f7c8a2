package directive

import (
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// translate converts the forms of maddy for an endpoint and a certificate at the top level to those of the schema:
//
//	endpoint.imap NAME ADDRESS… { … }   endpoint imap NAME { listen ADDRESS… … }
//	imap ADDRESS… { … }                 endpoint imap imap { listen ADDRESS… … }
//	tls file CERT KEY                   tls { cert CERT; key KEY }
//
// Directives for parts of maddy that mailturn does not have become errors.
func translate(directives []*directive) ([]*directive, hcl.Diagnostics) {
	var t translation
	var top []*directive
	for _, d := range directives {
		name := d.name.text
		if remark, ok := topRemarks[name]; ok && !(name == "log" && d.hasBlock) {
			t.ignore(d, remark)
			continue
		}
		if diag := foreign(d); diag != nil {
			t.diags = append(t.diags, diag)
			continue
		}
		kind, isEndpoint := strings.CutPrefix(name, "endpoint.")
		switch {
		case isEndpoint:
			label := word{text: kind, rng: d.name.rng}
			label.rng.Start.Byte += len("endpoint.")
			label.rng.Start.Column += len("endpoint.")
			d = t.endpoint(d, label)
		case name == "endpoint":
			d = t.labelled(d)
		case name == "tls":
			d = t.tls(d)
		case name == "hostname" || name == "state_dir" || name == "log" || name == "accounts":
		case d.hasBlock && suggestion(name, []string{"hostname", "state_dir", "tls", "log", "accounts", "endpoint"}) == "":
			d = t.endpoint(d, d.name)
		}
		if d != nil {
			top = append(top, d)
		}
	}
	return top, t.diags
}

type translation struct{ diags hcl.Diagnostics }

const (
	logging  = "logging is configured by a block at the top level: log { … } with the directives level and format"
	keyPairs = "the certificate is set by the directives cert and key, and renewed by the program that writes these files"
)

// topRemarks are the directives at the top level of maddy's and Madmail's files that have no effect here, and why.
var topRemarks = map[string]string{
	"debug":       logging,
	"log":         logging,
	"runtime_dir": "mailturn has no directory of that kind",
	"libexec_dir": "mailturn starts no helpers",
	"tls_mode":    keyPairs,
	"acme_email":  keyPairs,
}

// ignore warns about a directive that has no effect.
func (t *translation) ignore(d *directive, why string) {
	t.diags = append(t.diags, diagnostic.WithHint(diagnostic.Warnf(d.name.rng, "Directive has no effect", "%s is for maddy; mailturn ignores it.", d.name.text), why))
}

// endpoint converts d to an endpoint block. Its arguments are addresses, after a name if the directive is `endpoint.KIND`.
func (t *translation) endpoint(d *directive, kind word) *directive {
	name := kind
	listen := &directive{}
	for i, arg := range d.args {
		switch {
		case strings.Contains(arg.text, "://"):
			listen.args = append(listen.args, arg)
		case i == 0 && kind.rng != d.name.rng:
			name = arg
		default:
			t.diags = append(t.diags, diagnostic.WithHint(
				diagnostic.Errorf(arg.rng, "Not an address", "%q is not an address to listen on, such as tls://0.0.0.0:993.", arg.text),
				"an endpoint with a name has the form: endpoint."+kind.text+" NAME { … }"))
			return nil
		}
	}
	block := t.inside(kind.text, d.block)
	if len(listen.args) > 0 {
		listen.name = word{text: "listen", rng: listen.args[0].rng}
		listen.end = listen.args[len(listen.args)-1].rng
		block = append([]*directive{listen}, block...)
	}
	return &directive{
		name: word{text: "endpoint", rng: d.name.rng}, args: []word{kind, name}, hasBlock: true, block: block, end: d.end,
	}
}

// labelled completes an endpoint that is written with the labels of HCL.
func (t *translation) labelled(d *directive) *directive {
	e := *d
	kind := ""
	if len(d.args) > 0 {
		kind = d.args[0].text
	}
	if len(d.args) == 1 {
		e.args = []word{d.args[0], d.args[0]}
	}
	e.block = t.inside(kind, d.block)
	return &e
}

func (t *translation) tls(d *directive) *directive {
	switch {
	case len(d.args) == 0 && d.hasBlock:
		return d
	case len(d.args) == 3 && d.args[0].text == "file":
		attribute := func(name string, value word) *directive {
			return &directive{name: word{text: name, rng: value.rng}, args: []word{value}, end: value.rng}
		}
		return &directive{
			name: d.name, hasBlock: true, end: d.end,
			block: append([]*directive{attribute("cert", d.args[1]), attribute("key", d.args[2])}, d.block...),
		}
	}
	diag := diagnostic.Errorf(d.header(), "Malformed tls directive",
		"Two of maddy's forms of tls are accepted: `tls file CERT KEY`, and `tls { … }` with the directives cert and key.")
	if len(d.args) > 0 {
		switch d.args[0].text {
		case "off":
			diag = diagnostic.WithHint(diag, "remove tls, and tls:// from the addresses")
		case "self_signed":
			diag = diagnostic.WithHint(diag, "remove tls: an IMAP endpoint without a certificate generates one")
		}
	}
	t.diags = append(t.diags, diag)
	return nil
}

// foreign returns the error for a directive for a part of maddy that mailturn does not have, or nil.
func foreign(d *directive) *hcl.Diagnostic {
	const (
		relay    = "remove it, and leave mail transport to maddy"
		mailbox  = "remove it, and name the server with the accounts in the IMAP endpoint: upstream { … }"
		metrics  = `remove it: metrics are at /metrics of an endpoint "http"`
		web      = "remove it, and leave registration and the web to Madmail"
		maddysOf = "remove it: it is about maddy's own process"
	)
	module, _, _ := strings.Cut(d.name.text, ".")
	var hint string
	switch module {
	case "smtp", "submission", "lmtp", "target", "queue", "remote_queue", "msgpipeline", "check", "modify",
		"source", "destination", "default_source", "default_destination", "deliver_to", "reroute", "reject",
		"dmarc", "mx_auth", "autogenerated_msg_domain":
		hint = relay
	case "storage", "auth", "table", "auth_map", "auth_map_normalize", "storage_map", "storage_map_normalize",
		"auth_normalize", "imap_filter", "dovecot_sasld", "sasl_login", "local_authdb", "local_mailboxes":
		hint = mailbox
	case "chatmail":
		hint = web
	case "openmetrics":
		hint = metrics
	case "tls_client":
		hint = maddysOf
	case "debug", "io_debug", "io_errors":
		hint = logging
	case "loader", "protocols", "ciphers", "curves":
		hint = keyPairs
	default:
		return nil
	}
	return diagnostic.WithHint(diagnostic.Errorf(d.name.rng, "Directive of maddy",
		"%s configures a part of maddy that mailturn does not have.", d.name.text), hint)
}
