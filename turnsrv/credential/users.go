package credential

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

// keyPrefix marks a password that is the long-term key.
const keyPrefix = "ha1:"

// Users are static users without an expiry. Each belongs to a realm. A user whose password is known is also accepted in every
// other realm, because a client must sign with the realm that the server sends. A name can occur once in each realm. The zero
// value has no users. Safe for concurrent use while no users are added.
type Users struct{ byName map[string][]user }

type user struct {
	realm    string
	password Secret
	key      Secret // instead of the password; valid only for realm
}

// ErrDuplicate is returned by Users.Add if the realm already has a user of that name.
var ErrDuplicate = errors.New("duplicate user")

// Other errors of Users.Add.
var (
	// RFC 8489 section 14.3.
	errUsername     = errors.New("the user name is empty, longer than 508 bytes, or contains a control character")
	errExpiringName = errors.New("the user name begins or ends with a ten-digit number and could be mistaken for " +
		"an issued user name: add a letter to the number")
	errPassword  = errors.New("the password is empty")
	errKey       = errors.New("ha1: must be followed by 32 hexadecimal digits")
	errCoturnKey = errors.New("the password looks like a key in coturn's format: write ha1: instead of 0x")
)

// Add adds a user to realm. password is plain text, or "ha1:" followed by the user's key in hexadecimal digits: MD5(username
// ":" realm ":" password), as computed by LongTermKey and printed by turnadmin -k. Errors do not contain the password.
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

// namesSecond reports whether an issuer could issue username: whether it contains an expiry of ten digits, from 2001 to 2286. A
// static user of that name would take precedence over the issued one. Shorter numbers are allowed, because people use them as
// names too, for example telephone extensions.
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

// keys returns the keys with which a user of that name may sign in realm. The key of the user of that realm comes first.
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
