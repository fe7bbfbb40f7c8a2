package embedded

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mailturn/mailturn/framework/password"
)

// Bounds of a user list.
const (
	maxUsers        = 10000
	maxUsernameLen  = 255
	usersFileFormat = "NAME:PASSWORD, where PASSWORD is a bcrypt or argon2id hash, or plain text"
)

// checkUser returns why a user of the users file cannot be used, or nil.
func checkUser(name, text string) error {
	if err := checkUsername(name); err != nil {
		return err
	}
	if _, err := password.Parse(text); err != nil {
		return fmt.Errorf("user %q: %w", name, err)
	}
	return nil
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
