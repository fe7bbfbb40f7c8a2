package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mailturn/mailturn/framework/control"
)

// serviceSocket is where a service of the system has its control socket.
const serviceSocket = "/run/mailturn/" + controlSocket

// errNoSocket is what errors wrap if there is no control socket.
var errNoSocket = errors.New("there is no control socket")

// client returns a client for the socket that the flags specify.
func (c *ctl) client(stderr io.Writer) (control.Client, error) {
	if c.socket != "" {
		return control.Client{Path: c.socket}, nil
	}
	paths, err := c.sockets(stderr)
	if err != nil {
		return control.Client{}, err
	}
	for _, path := range paths {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) { // one that may not be used is the right one too
			return control.Client{Path: path}, nil
		}
	}
	return control.Client{}, fmt.Errorf("%w %s: is mailturn running? --socket names another path", errNoSocket, strings.Join(paths, " or "))
}

// sockets returns the paths where the socket may be, in the order in which they are tried. With a configuration, no path belongs to
// the server of another one, which a command would change by mistake.
func (c *ctl) sockets(stderr io.Writer) (paths []string, err error) {
	var dirs []string
	if c.configFile == "" {
		paths, dirs = []string{serviceSocket}, []string{cmp.Or(runtimeDir(), defaultStateDir())}
	} else {
		var diagnostics bytes.Buffer
		s, err := load(c.configFile, "", &diagnostics)
		switch {
		case err != nil: // mere warnings are for the server's log
			_, _ = diagnostics.WriteTo(stderr)
			return nil, err
		case !s.control.Enable.V:
			return nil, fmt.Errorf("%w: %s disables it", errNoSocket, c.configFile)
		case s.control.Path.Set:
			return []string{s.controlAt.Path}, nil
		case sameFile(c.configFile, c.unitFile):
			// The service manager gives the service a runtime directory that this process does not have.
			paths = []string{serviceSocket}
		}
		dirs = []string{runtimeDir(), s.stateDir}
	}
	for _, dir := range dirs {
		if path := filepath.Join(dir, controlSocket); dir != "" && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%w: name one with --socket", errNoSocket)
	}
	return paths, nil
}

// sameFile reports whether two paths lead to one file.
func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}
