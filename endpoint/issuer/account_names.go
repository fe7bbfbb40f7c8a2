package issuer

import (
	"cmp"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// AccountNames decides which login names belong to the same account. Limits per account count them together, because a user with
// several names could otherwise have the share of several users. With the zero value, names are the same if they differ only in
// case and surrounding white space.
type AccountNames struct {
	// Delimiter begins the detail of a name, which is not part of the account: alice+x@example.org is alice@example.org (RFC 5233
	// section 1). It is empty if each such name is an account of its own.
	Delimiter string
	// Domain is the domain of names without one. It is empty if they are accounts of their own.
	Domain string
}

// Account returns the name of the account to which a login name belongs. It is empty only for the empty name.
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
