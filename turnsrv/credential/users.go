package credential

import (
	"encoding/hex"
	"errors"
	"strings"
)

// keyPrefix marks a password that is the long-term key itself.
const keyPrefix = "ha1:"

// Users are the long-term keys of static users by their names, all for one realm. Static users have no expiry.
type Users map[string]Secret

// Errors of Users.Add.
var (
	ErrUsername     = errors.New("the user name is empty, longer than 508 bytes, or holds a control character") // RFC 8489 section 14.3
	ErrExpiringName = errors.New("the user name begins or ends with a number as issued ones do, and would be taken for one that expires")
	ErrUserTwice    = errors.New("the user is there twice")
	ErrPassword     = errors.New("the password is empty")
	ErrKey          = errors.New("ha1: is not followed by 32 hexadecimal digits")
	ErrCoturnKey    = errors.New("the password looks like a key as coturn writes it: write ha1: in place of 0x")
)

// Add adds a user of realm. password is plain text, or "ha1:" and the user's key in hexadecimal digits:
// MD5(username ":" realm ":" password), as LongTermKey computes it and turnadmin -k prints it. Errors do not contain it.
func (u Users) Add(username, realm, password string) error {
	switch {
	case username == "" || len(username) > 508 || strings.ContainsFunc(username, func(r rune) bool { return r < ' ' || r == 0x7F }):
		return ErrUsername
	case password == "":
		return ErrPassword
	}
	if _, _, err := ParseExpiry(username); err == nil {
		return ErrExpiringName
	}
	if _, twice := u[username]; twice {
		return ErrUserTwice
	}
	key := LongTermKey(username, realm, password)
	if digits, marked := strings.CutPrefix(password, keyPrefix); marked {
		var err error
		if key, err = hex.DecodeString(digits); err != nil || len(key) != 16 {
			return ErrKey
		}
	} else if digits, marked := strings.CutPrefix(password, "0x"); marked && len(digits) == 32 {
		return ErrCoturnKey
	}
	u[username] = NewSecret(key)
	return nil
}
