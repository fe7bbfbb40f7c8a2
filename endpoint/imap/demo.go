package imap

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
)

// demoComment is in the comment that maddy.conf.example has for a try.
const demoComment = "tried out on one machine"

// demoPasswords are those of maddy.conf.example, which everybody can read.
var demoPasswords = map[string]string{"alice@localhost": "wonderland", "bob@localhost": "builder"}

// demoDomain matches a domain that nobody has: of this machine, or for documentation (RFC 6761, RFC 2606).
var demoDomain = regexp.MustCompile(`(?i)(^|[@/:.\s])(localhost|[\w-]+\.(example|invalid|test)|example\.(com|net|org))($|[/:?\s])`)

// checkDemo warns of what was left from the example, where others than programs of this machine see it.
func (c *Config) checkDemo(users, entries config.Value[map[string]string]) (diags hcl.Diagnostics) {
	if listen.OnLoopback(c.Listen) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(entries.V)) {
		if value := entries.V[name]; strings.Contains(value, demoComment) || demoDomain.MatchString(value) {
			diags = append(diags, config.WithHint(config.Warnf(entries.Range, "Entry is from the example", "Clients would be shown %q as %q.", value, name),
				"set it for this server, or remove the entry"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(users.V)) {
		if demoPasswords[name] != "" && users.V[name] == demoPasswords[name] {
			diags = append(diags, config.WithHint(config.Warnf(users.Range, "Account is from the example", "Everybody knows the password of %q.", name),
				"remove the account, or change its password"))
		}
	}
	return diags
}
