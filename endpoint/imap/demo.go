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

// demoComment is part of the comment in maddy.conf.example.
const demoComment = "tried out on one machine"

// demoPasswords are the passwords in maddy.conf.example, which everybody can read.
var demoPasswords = map[string]string{"alice@localhost": "wonderland", "bob@localhost": "builder"}

// demoDomain matches domains that nobody owns: for this machine, or for documentation (RFC 6761, RFC 2606).
var demoDomain = regexp.MustCompile(`(?i)(^|[@/:.\s])(localhost|[\w-]+\.(example|invalid|test)|example\.(com|net|org))($|[/:?\s])`)

// checkDemo warns about leftovers from the example if the endpoint is reachable from other machines.
func (c *Config) checkDemo(users, entries config.Value[map[string]string]) (diags hcl.Diagnostics) {
	if listen.OnLoopback(c.Listen) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(entries.V)) {
		if value := entries.V[name]; strings.Contains(value, demoComment) || demoDomain.MatchString(value) {
			diags = append(diags, config.WithHint(config.Warnf(entries.Range, "Entry is from the example", "Clients would see %q as %q.", value, name),
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
