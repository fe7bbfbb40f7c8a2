// Package xmpp runs XMPP servers of Debian with the configuration that their packages install, and asks them which relays there
// are (XEP-0215).
package xmpp

import (
	"context"
	"fmt"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/e2e/chroot"
)

// Every server has this domain, and one user with this name and password.
const (
	Domain   = "localhost"
	User     = "alice"
	Password = "wonderland"
)

// program is how to run a server.
type program struct {
	config string // its path
	// edit returns the installed configuration with what a test needs to be different.
	edit func(text string) (string, error)
	// run is the script that root runs in a mount namespace of its own, in an empty directory that all may enter.
	run   string
	ready string // what it writes when it listens
}

// start runs the program in root. In its texts, DIR is the directory and PORT the port for clients, without TLS.
func start(ctx context.Context, root *chroot.Root, p program) (*chroot.Server, error) {
	cat, err := root.Command(nil, "cat", p.config)
	if err != nil {
		return nil, err
	}
	installed, err := cat.Output()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p.config, err)
	}
	config, err := p.edit(string(installed))
	if err != nil {
		return nil, err
	}
	const mount = "mount --bind config %s\nmkdir data\n"
	return root.Serve(ctx, chroot.Program{
		Name: "xmpp", Files: map[string]string{"config": config}, Script: fmt.Sprintf(mount, p.config) + p.run, Ready: p.ready,
	})
}

// replaceOnce returns text with the one occurrence of old replaced.
func replaceOnce(text, old, replacement string) (string, error) {
	if n := strings.Count(text, old); n != 1 {
		return "", fmt.Errorf("the installed configuration has %d times %q, want it once", n, old)
	}
	return strings.Replace(text, old, replacement, 1), nil
}
