package embedded

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/password"
	"github.com/mailturn/mailturn/framework/usersfile"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Schema is the body of the embedded block.
type Schema struct {
	config.Block
	Users     config.Value[map[string]string] `hcl:"users" secret:"true" doc:"Who may log in, name = password. The password is a bcrypt hash ($2b$...), an argon2id hash ($argon2id$...), or plain text for testing."`
	UsersFile config.Value[string]            `hcl:"users_file" type:"file" doc:"The same in a file, one NAME:PASSWORD per line, as htpasswd -B writes it. Lines that begin with # are ignored."`
}

// Users are the users who may log in, with their passwords by name. See password.Parse for the forms of a password.
type Users map[string]credential.Secret

// Decode checks the block and returns its users. It reads the users file.
func Decode(s *Schema) (users Users, diags hcl.Diagnostics) {
	users = make(Users)
	for _, name := range slices.Sorted(maps.Keys(s.Users.V)) {
		if err := checkUsername(name); err != nil {
			diags = append(diags, config.Errorf(s.Users.Range, "Invalid user name", "%v.", sentence(err)))
			continue
		}
		if _, err := password.Parse(s.Users.V[name]); err != nil {
			diags = append(diags, config.WithHint(config.Errorf(s.Users.Range, "Invalid password", "User %q: %v.", name, err),
				"mailturn hash-password makes a hash"))
			continue
		}
		users[name] = credential.NewSecret([]byte(s.Users.V[name]))
	}
	if !s.UsersFile.Set {
		return users, diags
	}
	fromFile, fileDiags := usersfile.Format{Line: usersFileFormat, Max: maxUsers, Check: checkUser}.Read(s.UsersFile)
	diags = append(diags, fileDiags...)
	for _, name := range slices.Sorted(maps.Keys(fromFile)) {
		if _, twice := users[name]; twice {
			diags = append(diags, config.WithHint(config.Errorf(s.UsersFile.Range, "Duplicate user",
				"%q is in users at %s and in the file %s.", name, config.Place(s.Users.Range), s.UsersFile.V), "remove one of them"))
		}
		users[name] = credential.NewSecret([]byte(fromFile[name]))
	}
	return users, diags
}

// sentence returns the text of err with a capital at its beginning.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}
