// Package door runs programs of Debian that get credentials from mailturn, or issue them under its secret, and asks them as their
// own users do. Each has the configuration that its package installs, except for what is said here.
package door

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
)

// An edit returns the text of an installed file with changes.
type edit func(text string) (string, error)

// start runs a program in root with edits of its installed files, by their paths.
func start(ctx context.Context, root *chroot.Root, edits map[string]edit, p chroot.Program) (*chroot.Server, error) {
	p.Files = make(map[string]string)
	for path, edit := range edits {
		cat, err := root.Command(nil, "cat", path)
		if err != nil {
			return nil, err
		}
		installed, err := cat.Output()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		name := filepath.Base(path)
		if p.Files[name], err = edit(string(installed)); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		p.Script = "mount --bind " + name + " " + path + "\n" + p.Script
	}
	return root.Serve(ctx, p)
}

// replaceOnce returns an edit that replaces texts, each of which must occur once.
func replaceOnce(oldnew ...string) edit {
	return func(text string) (string, error) {
		for i := 0; i < len(oldnew); i += 2 {
			if n := strings.Count(text, oldnew[i]); n != 1 {
				return "", fmt.Errorf("%q is there %d times, want once", oldnew[i], n)
			}
			text = strings.Replace(text, oldnew[i], oldnew[i+1], 1)
		}
		return text, nil
	}
}
