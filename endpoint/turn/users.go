package turn

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/usersfile"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// usersFormat is the format of a users file. addUsers checks its names and passwords.
var usersFormat = usersfile.Format{Line: "NAME:PASSWORD or NAME:ha1:KEY", Max: 100_000}

// shortPassword is the length in bytes below which a password causes a warning: whoever sees one request of its user can try
// millions of passwords in a second (RFC 8489 section 16.1.2).
const shortPassword = 12

// decodeUsers returns the static users of realm from the attribute and from the file.
func decodeUsers(realm string, users config.Value[map[string]string], file config.Value[string]) (map[string]credential.Secret, hcl.Diagnostics) {
	decoded := make(map[string]credential.Secret)
	diags := addUsers(decoded, realm, users.V, users.Range)
	if file.Set {
		fromFile, fileDiags := usersFormat.Read(file)
		diags = append(diags, fileDiags...)
		diags = append(diags, addUsers(decoded, realm, fromFile, file.Range)...)
	}
	return decoded, diags
}

func addUsers(to map[string]credential.Secret, realm string, users map[string]string, rng hcl.Range) hcl.Diagnostics {
	var diags hcl.Diagnostics
	short := 0
	for _, name := range slices.Sorted(maps.Keys(users)) {
		password := users[name]
		err := new(credential.Users).Add(name, realm, password)
		if _, twice := to[name]; twice {
			err = credential.ErrDuplicate
		}
		if err != nil {
			diags = append(diags, config.Errorf(rng, "Invalid user", "User %q: %v.", name, err))
			continue
		}
		if len(password) < shortPassword {
			short++
		}
		to[name] = credential.NewSecret([]byte(password))
	}
	if short > 0 {
		diags = append(diags, config.WithHint(config.Warnf(rng, "Password is short",
			"%d of the users have passwords of fewer than %d bytes, which can be guessed from a single intercepted request.", short, shortPassword),
			"make one with: openssl rand -base64 18"))
	}
	return diags
}
