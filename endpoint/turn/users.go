package turn

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Bounds of a users file.
const (
	maxUsers       = 100_000
	maxUserLineLen = 4096
)

// shortPassword is the length in bytes below which a password draws a warning: whoever sees one request of its user can
// try passwords at leisure, millions in a second (RFC 8489 section 16.1.2).
const shortPassword = 12

// decodeUsers takes static users of realm from the attribute and from the file.
func decodeUsers(realm string, users config.Value[map[string]string], file config.Value[string]) (map[string]credential.Secret, hcl.Diagnostics) {
	decoded := make(map[string]credential.Secret)
	diags := addUsers(decoded, realm, users.V, users.Range)
	if file.Set {
		fromFile, fileDiags := readUsersFile(file)
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

func readUsersFile(v config.Value[string]) (users map[string]string, diags hcl.Diagnostics) {
	path := config.Path(v)
	text, mode, err := bounded.ReadFile(path, bounded.MaxUsersFile)
	if err != nil {
		return nil, hcl.Diagnostics{config.Errorf(v.Range, "Users file cannot be read", "%v.", err)}
	}
	if mode.Perm()&0o004 != 0 {
		diags = append(diags, config.WithHint(config.Warnf(v.Range, "Users file is readable by everybody",
			"%s has mode %#o.", path, mode.Perm()), "chmod o-r "+path))
	}
	if users, err = readUsers(bytes.NewReader(text)); err != nil {
		diags = append(diags, config.Errorf(v.Range, "Invalid users file", "%s: %v.", path, err))
	}
	return users, diags
}

// readUsers reads a users file: one NAME:PASSWORD a line, PASSWORD as credential.Users has it. Empty lines and lines that
// begin with # are skipped. Errors name the line and never contain a password.
func readUsers(r io.Reader) (map[string]string, error) {
	users := make(map[string]string)
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, 1024), maxUserLineLen)
	for line := 1; scanner.Scan(); line++ {
		text := strings.TrimRight(scanner.Text(), "\r")
		if strings.TrimSpace(text) == "" || strings.HasPrefix(text, "#") {
			continue
		}
		name, password, found := strings.Cut(text, ":")
		if !found {
			return nil, fmt.Errorf("line %d has no colon: want NAME:PASSWORD or NAME:ha1:KEY", line)
		}
		if _, twice := users[name]; twice {
			return nil, fmt.Errorf("line %d: %w: %q", line, credential.ErrDuplicate, name)
		}
		if users[name] = password; len(users) > maxUsers {
			return nil, fmt.Errorf("line %d: more than %d users", line, maxUsers)
		}
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("a line is longer than %d bytes: want NAME:PASSWORD or NAME:ha1:KEY", maxUserLineLen)
	} else if err != nil {
		return nil, err
	}
	return users, nil
}
