package page

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/password"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// An Access says who may see the page, and which relays it tests. It is not changed once it is in use.
type Access struct {
	password password.Password
	// key is derived from the hash of the password. It signs links and marks sessions, so that a change of the password ends all of
	// them, and a restart no link.
	key  []byte
	turn issuer.Config
}

// NewAccess returns the access for the password with the given hash.
func NewAccess(hash credential.Secret, turn issuer.Config) (*Access, error) {
	p, err := ParseHash(string(hash.Bytes()))
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, hash.Bytes(), nil, "mailturn: links to the call test", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive a key from the hash of the page's password: %w", err)
	}
	return &Access{password: p, key: key, turn: turn}, nil
}

// ParseHash reads the hash of the password: bcrypt or argon2id. The error never contains the text.
func ParseHash(text string) (password.Password, error) {
	if name, hash, ok := strings.Cut(text, ":"); ok && strings.HasPrefix(hash, "$") && !strings.HasPrefix(name, "$") {
		return password.Password{}, errors.New("there is a user name before the hash: want only the part after the colon")
	}
	p, err := password.Parse(text)
	if err == nil && !p.Hashed {
		err = errors.New("it is plain text: want a bcrypt hash ($2b$...) or an argon2id hash ($argon2id$...)")
	}
	return p, err
}

// linkLifetime is how long a link to the call test works.
const linkLifetime = time.Hour

const (
	expiryLen = 8
	macLen    = 16 // half of HMAC-SHA256, the least that RFC 2104 section 5 recommends
)

// newLink returns the token of a link and when it expires. Tokens are the same for a second.
func (a *Access) newLink(now time.Time) (token string, expires time.Time) {
	expires = now.Add(linkLifetime).Truncate(time.Second)
	b := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, a.mac(b)...)), expires
}

// acceptLink reports whether token is that of a link, and not expired at now.
func (a *Access) acceptLink(token string, now time.Time) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != expiryLen+macLen || !hmac.Equal(b[expiryLen:], a.mac(b[:expiryLen])) {
		return false
	}
	return now.Before(time.Unix(int64(binary.BigEndian.Uint64(b)), 0))
}

func (a *Access) mac(b []byte) []byte {
	h := hmac.New(sha256.New, a.key)
	h.Write(b)
	return h.Sum(nil)[:macLen]
}
