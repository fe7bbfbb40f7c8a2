package cluster

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// MinKey is the least size of the key of a cluster, in bytes.
const MinKey = 32

// A sealer encrypts and authenticates what the machines of a cluster store in Redis, with AES-256-GCM. A nil sealer changes nothing.
type sealer struct {
	aead cipher.AEAD
	mac  []byte
}

// newSealer returns the sealer for the key of a cluster, nil if that is empty.
func newSealer(key []byte) *sealer {
	if len(key) == 0 {
		return nil
	}
	derive := func(purpose string) []byte {
		derived, err := hkdf.Key(sha256.New, key, nil, "mailturn cluster: "+purpose, 32)
		if err != nil { // impossible for 32 bytes
			panic(err)
		}
		return derived
	}
	block, err := aes.NewCipher(derive("encryption"))
	if err != nil { // impossible for 32 bytes
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil { // impossible for AES
		panic(err)
	}
	return &sealer{aead, derive("names")}
}

// seal returns text that only open with the same context returns.
func (s *sealer) seal(text, context string) string {
	if s == nil {
		return text
	}
	nonce := make([]byte, s.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return string(s.aead.Seal(nonce, nonce, []byte(text), []byte(context)))
}

var errSealed = errors.New("it was not made with the key of this cluster")

// open is the inverse of seal.
func (s *sealer) open(sealed, context string) (string, error) {
	if s == nil {
		return sealed, nil
	}
	if len(sealed) < s.aead.NonceSize() {
		return "", errSealed
	}
	nonce, rest := sealed[:s.aead.NonceSize()], sealed[s.aead.NonceSize():]
	text, err := s.aead.Open(nil, []byte(nonce), []byte(rest), []byte(context))
	if err != nil {
		return "", errSealed
	}
	return string(text), nil
}

// field returns the field of a hash for a name, which does not disclose it.
func (s *sealer) field(name string) string {
	if s == nil {
		return name
	}
	mac := hmac.New(sha256.New, s.mac)
	mac.Write([]byte(name))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// HasKey reports whether the cluster has a key, so that nobody without it can read or make what Seal returns, or an Entry.
func (s *Settings) HasKey() bool { return len(s.key()) > 0 }

// Seal encrypts text with the key of the cluster, which it must have. Only Open with the same context returns it.
func (s *Settings) Seal(text, context string) string {
	return newSealer(s.key()).seal(text, "file: "+context)
}

// Open is the inverse of Seal. It returns an error if the text was sealed with another key or context, or if there is no key.
func (s *Settings) Open(sealed, context string) (string, error) {
	if !s.HasKey() {
		return "", errSealed
	}
	return newSealer(s.key()).open(sealed, "file: "+context)
}
