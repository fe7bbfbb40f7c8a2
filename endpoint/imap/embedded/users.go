package embedded

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of a user list.
const (
	maxUsers        = 10000
	maxUsernameLen  = 255
	maxUserLineLen  = 4096
	usersFileFormat = "one user per line, NAME:PASSWORD, where PASSWORD is a bcrypt or argon2id hash, or plain text"
)

// readUsers reads a users file: one NAME:PASSWORD per line, as htpasswd -B writes it. It skips empty lines and lines that start
// with #. Further fields, as in passwd(5), are part of the password, which may contain colons. Errors name the line and never
// contain the password.
func readUsers(r io.Reader) (map[string]string, error) {
	users := make(map[string]string)
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, 1024), maxUserLineLen)
	line := 0
	for scanner.Scan() {
		line++
		text := strings.TrimRight(scanner.Text(), "\r")
		if strings.TrimSpace(text) == "" || strings.HasPrefix(text, "#") {
			continue
		}
		name, secret, found := strings.Cut(text, ":")
		if !found {
			return nil, fmt.Errorf("line %d has no colon: want %s", line, usersFileFormat)
		}
		if err := checkUsername(name); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if _, err := parsePassword(secret); err != nil {
			return nil, fmt.Errorf("line %d: user %q: %w", line, name, err)
		}
		if _, twice := users[name]; twice {
			return nil, fmt.Errorf("line %d: duplicate user %q", line, name)
		}
		users[name] = secret
		if len(users) > maxUsers {
			return nil, fmt.Errorf("line %d: more than %d users: the embedded server is not designed for that many", line, maxUsers)
		}
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d is longer than %d bytes: want %s", line+1, maxUserLineLen, usersFileFormat)
	} else if err != nil {
		return nil, err
	}
	return users, nil
}

// checkUsername refuses names that nobody can log in with: clients send them in quoted strings (RFC 9051 section 4.3).
func checkUsername(name string) error {
	switch {
	case name == "":
		return errors.New("the user name is empty")
	case len(name) > maxUsernameLen:
		return fmt.Errorf("the user name has %d bytes: want %d or less", len(name), maxUsernameLen)
	case strings.ContainsAny(name, "\x00\r\n"):
		return fmt.Errorf("the user name %q contains a control character", name)
	default:
		return nil
	}
}
