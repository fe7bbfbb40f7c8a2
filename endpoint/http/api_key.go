package http

import (
	"crypto/sha256"
	"crypto/subtle"

	"github.com/mailturn/mailturn/turnsrv/credential"
)

// apiKeys are the keys that are accepted, as digests, so that comparing takes the same time whatever their lengths.
type apiKeys [][sha256.Size]byte

func newAPIKeys(keys []credential.Secret) apiKeys {
	var digests apiKeys
	for _, key := range keys {
		digests = append(digests, sha256.Sum256(key.Bytes()))
	}
	return digests
}

// accept reports whether key is one of them. Its duration reveals only how many there are.
func (k apiKeys) accept(key string) bool {
	digest := sha256.Sum256([]byte(key))
	found := 0
	for i := range k {
		found |= subtle.ConstantTimeCompare(k[i][:], digest[:])
	}
	return found == 1
}
