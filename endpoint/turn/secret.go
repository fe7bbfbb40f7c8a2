package turn

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// secretLen is the length of a generated secret in random bytes; base64 makes 44 characters of them.
const secretLen = 32

// checkSecrets refuses secrets with which the relay would be open to everybody, and warns of weak ones.
func checkSecrets(v config.Value[[]credential.Secret]) hcl.Diagnostics {
	if !v.Set {
		return nil
	}
	var diags hcl.Diagnostics
	if v.V != nil && len(v.V) == 0 { // nil: it could not be decoded, which has been said
		diags = append(diags, config.WithHint(config.Errorf(v.Range, "No secret", "The list is empty."),
			"leave secret out, and one is generated and kept in state_dir."))
	}
	for _, secret := range v.V {
		for _, weakness := range credential.Assess(secret) {
			diag := config.Warnf
			if weakness.Fatal {
				diag = config.Errorf
			}
			diags = append(diags, config.WithHint(diag(v.Range, "Secret is not safe", "%s.", weakness.Reason),
				"make one with: openssl rand -base64 32"))
		}
	}
	return diags
}

// StoredSecret returns the secret that is kept in the state directory dir, as the file turn.secret with mode 0600. When
// there is none yet it makes one, and created is true. dir is made if it does not exist, with mode 0700.
func StoredSecret(dir string) (secret credential.Secret, created bool, err error) {
	path := filepath.Join(dir, "turn.secret")
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		secret = credential.NewSecret(text)
		for _, weakness := range credential.Assess(secret) {
			return credential.Secret{}, false, fmt.Errorf("%s: %s: remove the file and a new one is made", path, weakness.Reason)
		}
		return secret, false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return credential.Secret{}, false, fmt.Errorf("read the generated secret: %w", err)
	}

	random := make([]byte, secretLen)
	rand.Read(random) // never fails, crypto/rand
	text = base64.StdEncoding.AppendEncode(nil, random)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return credential.Secret{}, false, fmt.Errorf("keep a generated secret: %w", err)
	}
	switch err := writeNew(path, text); {
	case errors.Is(err, fs.ErrExist): // another process was faster
		return StoredSecret(dir)
	case err != nil:
		return credential.Secret{}, false, fmt.Errorf("keep a generated secret: %w", err)
	}
	return credential.NewSecret(text), true, nil
}

// writeNew makes the file at path, readable by its owner alone. Whoever looks sees it whole or not at all, and an existing
// file is left as it is: fs.ErrExist.
func writeNew(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".turn.secret.*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	return err
}
