package turn

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// UserRealm is a realm with static users in addition to the endpoint's own.
type UserRealm struct {
	Realm string
	Names []string // names of the server for its clients, in lower case
	Users map[string]credential.Secret
}

// decodeUserRealms decodes the realms, and reports duplicate realms and names.
func (c *Config) decodeUserRealms(schemas []UserRealmSchema) (diags hcl.Diagnostics) {
	realms, names := map[string]bool{c.Realm: true}, make(map[string]bool)
	for _, s := range schemas {
		realm := UserRealm{Realm: s.Realm.V, Names: slices.Clone(s.Names.V)}
		switch diag := checkRealm(s.Realm); {
		case diag.HasErrors():
			diags = append(diags, diag...)
			continue
		case realms[realm.Realm]:
			diags = append(diags, config.WithHint(config.Errorf(s.Realm.Range, "Duplicate realm", "There is already a realm %q.", realm.Realm),
				"put the users of a realm into one block, and those of the endpoint's realm into the endpoint"))
			continue
		}
		realms[realm.Realm] = true
		if !s.Names.Set {
			realm.Names = []string{realm.Realm}
		}
		for i, name := range realm.Names {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			realm.Names[i] = name
			rng := s.Realm.Range
			if s.Names.Set {
				rng = s.Names.At(i)
			}
			switch {
			case name == "" && s.Names.Set || strings.ContainsAny(name, ":/ "):
				diags = append(diags, config.Errorf(rng, "Not a server name", "%q: want only a host name, such as turn.example.net.", name))
			case names[name]:
				diags = append(diags, config.Errorf(rng, "Name belongs to two realms", "%q is also a name of another user_realm.", name))
			}
			names[name] = true
		}
		users, userDiags := decodeUsers(realm.Realm, s.Users, s.UsersFile)
		diags = append(diags, userDiags...)
		realm.Users = users
		if len(users) == 0 && !userDiags.HasErrors() {
			diags = append(diags, config.Warnf(s.Range, "Realm has no users", "Nobody has a password in %q.", realm.Realm))
		}
		c.UserRealms = append(c.UserRealms, realm)
	}
	return diags
}

// realms returns the realms by server name, or nil if there are none.
func (c *Config) realms() map[string]string {
	if len(c.UserRealms) == 0 {
		return nil
	}
	realms := make(map[string]string)
	for _, realm := range c.UserRealms {
		for _, name := range realm.Names {
			realms[name] = realm.Realm
		}
	}
	return realms
}
