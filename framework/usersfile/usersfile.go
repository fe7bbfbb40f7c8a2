// Package usersfile reads files of users with their passwords, one NAME:PASSWORD per line.
package usersfile

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config"
)

const maxLine = 4096 // bytes

// Format is what a file may contain.
type Format struct {
	Line  string                            // the form of a line, for errors
	Max   int                               // number of users
	Check func(name, password string) error // nil if every name and password is valid; its errors must not contain the password
}

// Read returns the passwords in the file that v names, by user name. Diagnostics never contain a password; it is a warning if
// everybody can read the file.
func (f Format) Read(v config.Value[string]) (users map[string]string, diags hcl.Diagnostics) {
	path := config.Path(v)
	text, mode, err := bounded.ReadFile(path, bounded.MaxUsersFile)
	if err != nil {
		diag := config.Errorf(v.Range, "Users file cannot be read", "%v.", err)
		if errors.Is(err, fs.ErrPermission) {
			config.WithHint(diag, "make it readable by the user that runs mailturn")
		}
		return nil, hcl.Diagnostics{diag}
	}
	if mode.Perm()&0o004 != 0 {
		diags = append(diags, config.WithHint(config.Warnf(v.Range, "Users file is readable by everybody",
			"%s has mode %#o.", path, mode.Perm()), "chmod o-r "+path))
	}
	if users, err = f.parse(string(text)); err != nil {
		diags = append(diags, config.Errorf(v.Range, "Invalid users file", "%s: %v.", path, err))
	}
	return users, diags
}

// parse skips empty lines and lines that begin with #. Further colons, as in passwd(5), are part of the password. Errors name the
// line.
func (f Format) parse(text string) (map[string]string, error) {
	users := make(map[string]string)
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		name, password, found := strings.Cut(line, ":")
		switch _, exists := users[name]; {
		case len(line) > maxLine:
			return nil, fmt.Errorf("line %d is longer than %d bytes: want %s", number, maxLine, f.Line)
		case !found:
			return nil, fmt.Errorf("line %d has no colon: want %s", number, f.Line)
		case exists:
			return nil, fmt.Errorf("line %d: duplicate user %q", number, name)
		case len(users) == f.Max:
			return nil, fmt.Errorf("line %d: more than %d users", number, f.Max)
		}
		if f.Check != nil {
			if err := f.Check(name, password); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
		}
		users[name] = password
	}
	return users, nil
}
