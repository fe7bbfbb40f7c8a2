// Package password verifies passwords against what a configuration holds of them, a hash or plain text, and makes hashes.
package password

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Bounds of the cost of a verification, so that a hash in a users file cannot stop the server.
const (
	maxBcryptCost   = 15         // about 2 s
	maxArgon2Memory = 256 * 1024 // KiB
	maxArgon2Passes = 64
)

// hashCost makes a verification take about a quarter of a second.
const hashCost = 12

// Hash returns a bcrypt hash of a password. bcrypt cannot hash more than 72 bytes; neither may the password be empty.
func Hash(password string) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), hashCost)
	if errors.Is(err, bcrypt.ErrPasswordTooLong) {
		return "", errors.New("the password has more than 72 bytes, which bcrypt cannot hash: choose a shorter one")
	}
	return string(hash), err
}

// A Password verifies one password against a digest of it, or against a hash made by another program.
type Password struct {
	// Verify reports whether candidate is the password. It is safe for concurrent use.
	Verify func(candidate string) bool
	// Hashed says that Verify is slow and, for argon2id, takes memory, on purpose: callers limit how many run at once.
	Hashed bool
}

// Parse reads a password as written in the configuration: a bcrypt hash ($2a$, $2b$, $2y$), an argon2id hash in PHC form
// ($argon2id$v=19$...), or plain text. The error never contains the text.
func Parse(text string) (Password, error) {
	switch {
	case text == "":
		return Password{}, errors.New("the password is empty")
	case strings.HasPrefix(text, "$2a$"), strings.HasPrefix(text, "$2b$"), strings.HasPrefix(text, "$2y$"):
		return parseBcrypt(text)
	case strings.HasPrefix(text, "$argon2id$"):
		return parseArgon2id(text)
	case strings.HasPrefix(text, "$"):
		return Password{}, errors.New("the password begins with $ but is not a known hash: want bcrypt ($2b$...) or argon2id ($argon2id$...)")
	case strings.HasPrefix(text, "{") && strings.Contains(text, "}"):
		return Password{}, errors.New("the password has a scheme in braces, as Dovecot writes it: want only the part after it, bcrypt ($2b$...) or argon2id ($argon2id$...)")
	}
	digest := sha256.Sum256([]byte(text))
	return Password{Verify: func(candidate string) bool {
		got := sha256.Sum256([]byte(candidate)) // of equal length for the comparison, whatever was sent
		return subtle.ConstantTimeCompare(got[:], digest[:]) == 1
	}}, nil
}

func parseBcrypt(text string) (Password, error) {
	hash := []byte(text)
	cost, err := bcrypt.Cost(hash)
	if err != nil {
		return Password{}, errors.New("the bcrypt hash is damaged: want $2b$, two digits, $ and 53 characters")
	}
	if len(hash) != 60 {
		return Password{}, fmt.Errorf("the bcrypt hash has %d characters: want 60", len(hash))
	}
	if cost > maxBcryptCost {
		return Password{}, fmt.Errorf("the bcrypt hash has cost %d: want %d or less", cost, maxBcryptCost)
	}
	return Password{Hashed: true, Verify: func(candidate string) bool {
		return bcrypt.CompareHashAndPassword(hash, []byte(candidate)) == nil
	}}, nil
}

// parseArgon2id reads $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH (RFC 9106; the form is that of the PHC string
// format, with base64 that has no padding).
func parseArgon2id(text string) (Password, error) {
	damaged := errors.New("the argon2id hash is damaged: want $argon2id$v=19$m=65536,t=3,p=4$SALT$HASH")
	fields := strings.Split(text, "$")
	if len(fields) != 6 {
		return Password{}, damaged
	}
	var memory, passes uint32
	var lanes uint8
	if n, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes); n != 3 || err != nil ||
		fields[3] != fmt.Sprintf("m=%d,t=%d,p=%d", memory, passes, lanes) {
		return Password{}, damaged
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(fields[4])
	hash, hashErr := base64.RawStdEncoding.DecodeString(fields[5])
	if saltErr != nil || hashErr != nil {
		return Password{}, damaged
	}
	switch {
	case fields[2] != fmt.Sprintf("v=%d", argon2.Version):
		return Password{}, fmt.Errorf("the argon2id hash has version %q: want v=19", fields[2])
	case len(salt) < 8 || len(salt) > 64:
		return Password{}, fmt.Errorf("the argon2id hash has a salt of %d bytes: want 8 to 64", len(salt))
	case len(hash) < 16 || len(hash) > 64:
		return Password{}, fmt.Errorf("the argon2id hash has %d bytes: want 16 to 64", len(hash))
	case passes < 1 || passes > maxArgon2Passes:
		return Password{}, fmt.Errorf("the argon2id hash has t=%d: want 1 to %d", passes, maxArgon2Passes)
	case lanes < 1:
		return Password{}, errors.New("the argon2id hash has p=0: want 1 or more")
	case memory < 8*uint32(lanes) || memory > maxArgon2Memory:
		return Password{}, fmt.Errorf("the argon2id hash has m=%d: want %d to %d (KiB)", memory, 8*uint32(lanes), maxArgon2Memory)
	}
	return Password{Hashed: true, Verify: func(candidate string) bool {
		got := argon2.IDKey([]byte(candidate), salt, passes, memory, lanes, uint32(len(hash)))
		return subtle.ConstantTimeCompare(got, hash) == 1
	}}, nil
}
