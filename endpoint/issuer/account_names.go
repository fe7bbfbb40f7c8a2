package issuer

import (
	"cmp"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// AccountNames says which names are those of one account. Limits for an account count all of them together, since whoever
// can log in under several names could otherwise have the share of several. The zero value tells names apart that differ
// in more than case and surrounding white space.
type AccountNames struct {
	// Delimiter begins the detail of a name, which is no part of the account: alice+x@example.org is alice@example.org (RFC
	// 5233 section 1). Empty if the mail server gives each such name an account of its own.
	Delimiter string
	// Domain is that of names without one. Empty if they are accounts of their own.
	Domain string
}

// Account returns the account's name of all those that a client may log in with. It is empty for the empty name, and for no
// other.
func (n AccountNames) Account(name string) string {
	trimmed := strings.TrimSpace(strings.ToLower(name))
	if trimmed == "" {
		return name
	}
	local, domain, _ := strings.Cut(trimmed, "@")
	local, domain = strings.TrimSpace(local), strings.TrimSpace(domain)
	if n.Delimiter != "" {
		account, _, _ := strings.Cut(local, n.Delimiter)
		local = cmp.Or(strings.TrimSpace(account), local)
	}
	domain = cmp.Or(domain, strings.ToLower(n.Domain))
	switch {
	case local == "":
		return trimmed
	case domain == "":
		return local
	default:
		return local + "@" + domain
	}
}

// DecodeAccountNames checks the block accounts.
func DecodeAccountNames(s config.Accounts) (n AccountNames, diags hcl.Diagnostics) {
	if n.Delimiter = s.Delimiter.V; strings.ContainsAny(n.Delimiter, "@ \t") {
		diags = append(diags, config.Errorf(s.Delimiter.Range, "Not a delimiter",
			"delimiter is %q: want one or more characters, such as +, without @ and spaces.", n.Delimiter))
	}
	if n.Domain = s.Domain.V; strings.ContainsAny(n.Domain, "@ \t") {
		diags = append(diags, config.Errorf(s.Domain.Range, "Not a domain", "domain is %q: want a name such as example.org.", n.Domain))
	}
	return n, diags
}
