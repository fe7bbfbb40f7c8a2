package credential

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

// keyPrefix marks a password that is the long-term key itself.
const keyPrefix = "ha1:"

// Users are static users, who have no expiry. Each is of a realm; one whose password is known is let in under any other
// realm too, because a client signs with the realm that it is told of, and cannot choose. A name may be there once in each
// realm. The zero value has no users. It is safe for concurrent use while nobody adds to it.
type Users struct{ byName map[string][]user }

type user struct {
	realm    string
	password Secret
	key      Secret // in place of the password; good for realm alone
}

// ErrDuplicate is the error of Users.Add for a user who is in the realm already.
var ErrDuplicate = errors.New("duplicate user")

// Other errors of Users.Add.
var (
	errUsername     = errors.New("the user name is empty, longer than 508 bytes, or contains a control character") // RFC 8489 section 14.3
	errExpiringName = errors.New("the user name begins or ends with a ten-digit number and could be mistaken for an issued user name: add a letter to the number")
	errPassword     = errors.New("the password is empty")
	errKey          = errors.New("ha1: must be followed by 32 hexadecimal digits")
	errCoturnKey    = errors.New("the password looks like a key in coturn's format: replace 0x with ha1:")
)

// Add adds a user of realm. password is plain text, or "ha1:" and the user's key in hexadecimal digits:
// MD5(username ":" realm ":" password), as LongTermKey computes it and turnadmin -k prints it. Errors do not contain it.
func (u *Users) Add(username, realm, password string) error {
	switch {
	case username == "" || len(username) > 508 || strings.ContainsFunc(username, func(r rune) bool { return r < ' ' || r == 0x7F }):
		return errUsername
	case password == "":
		return errPassword
	}
	if namesSecond(username) {
		return errExpiringName
	}
	if slices.ContainsFunc(u.byName[username], func(other user) bool { return other.realm == realm }) {
		return ErrDuplicate
	}
	added := user{realm: realm, password: NewSecret([]byte(password))}
	if digits, marked := strings.CutPrefix(password, keyPrefix); marked {
		key, err := hex.DecodeString(digits)
		if err != nil || len(key) != 16 {
			return errKey
		}
		added = user{realm: realm, key: NewSecret(key)}
	} else if digits, marked := strings.CutPrefix(password, "0x"); marked && len(digits) == 32 {
		return errCoturnKey
	}
	if u.byName == nil {
		u.byName = make(map[string][]user)
	}
	u.byName[username] = append(u.byName[username], added)
	return nil
}

// namesSecond reports whether an issuer may write username: with an expiry from 2001 on, which has ten digits until the year
// 2286. A static user of that name would be looked up in the place of the issued one. Shorter numbers are names of people
// too, such as the extensions of a telephone system.
func namesSecond(username string) bool {
	head, _, _ := strings.Cut(username, ":")
	tail := username[strings.LastIndexByte(username, ':')+1:]
	for _, part := range [...]string{head, tail} {
		if isNumber(part) && len(strings.TrimLeft(part, "0")) == 10 {
			return true
		}
	}
	return false
}

// keys returns the keys with which a user of the name may sign in realm, that of the realm's own user first.
func (u *Users) keys(username, realm string) (keys []Key) {
	for _, user := range u.byName[username] {
		key := Key{user.key.Bytes(), Subject{Name: username, Realm: user.realm}}
		switch {
		case user.key.IsZero():
			key.Value = LongTermKey(username, realm, string(user.password.Bytes()))
		case user.realm != realm:
			continue
		}
		if user.realm == realm {
			keys = slices.Insert(keys, 0, key)
		} else {
			keys = append(keys, key)
		}
	}
	return keys
}
