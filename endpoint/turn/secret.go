package turn

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mailturn/mailturn/framework/atomicfile"
	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// secretLen is the number of random bytes of a generated secret, which are 44 characters in base64.
const secretLen = 32

// StoredSecret returns the secret in the state directory dir, in the file turn.secret with mode 0600. If there is none it creates
// one, and created is true. dir is created if it does not exist, with mode 0700. A secret that root creates, with a command before
// the first start, belongs to the owner of dir, who has to read it.
func StoredSecret(dir string) (secret credential.Secret, created bool, err error) {
	path := filepath.Join(dir, "turn.secret")
	text, _, err := bounded.ReadFile(path, bounded.MaxFile)
	switch {
	case err == nil:
		secret = credential.NewSecret(text)
		for _, weakness := range credential.Assess(secret) {
			return credential.Secret{}, false, fmt.Errorf("%s: %s: remove the file to generate a new one", path, weakness.Reason)
		}
		return secret, false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return credential.Secret{}, false, fmt.Errorf("read the generated secret: %w", err)
	}

	random := make([]byte, secretLen)
	rand.Read(random) // never fails, crypto/rand
	text = base64.StdEncoding.AppendEncode(nil, random)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return credential.Secret{}, false, fmt.Errorf("store the generated secret: %w", err)
	}
	attributes, err := atomicfile.In(dir, 0o600)
	if err != nil {
		return credential.Secret{}, false, fmt.Errorf("store the generated secret: %w", err)
	}
	switch err := atomicfile.Create(path, text, attributes); {
	case errors.Is(err, fs.ErrExist): // another process was faster
		return StoredSecret(dir)
	case err != nil:
		return credential.Secret{}, false, fmt.Errorf("store the generated secret: %w", err)
	}
	return credential.NewSecret(text), true, nil
}
