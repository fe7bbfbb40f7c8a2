package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"

	"github.com/hashicorp/hcl/v2"
	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config"
)

// do runs f with the rights that a has to files, and no other. f must open them in its own goroutine. It takes root.
func (a *account) do(f func()) error {
	done := make(chan error)
	go func() {
		// Linux keeps the identity for each thread. This one is never unlocked, and so ends with the goroutine.
		runtime.LockOSThread()
		err := errors.Join(unix.Setgroups(a.groups), unix.Setfsgid(a.gid), unix.Setfsuid(a.uid))
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}

// checkState looks whether what an earlier run has made can be read, and what a later one may have to make can be written. It
// runs within do.
func (a *account) checkState(s *setup) (diags hcl.Diagnostics) {
	if s == nil || s.stateDir == "" {
		return nil
	}
	switch err := unix.Faccessat(unix.AT_FDCWD, s.stateDir, unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS); {
	case errors.Is(err, fs.ErrNotExist): // systemd makes it
		return nil
	case err != nil:
		return hcl.Diagnostics{config.WithHint(config.Warnf(hcl.Range{}, "State directory cannot be used", "%s: %v.", s.stateDir, err),
			"chown -R "+a.name+": "+s.stateDir)}
	}
	files := []string{"turn.secret", "selfsigned.crt", "selfsigned.key"}
	if s.acme != nil {
		for _, name := range s.acme.Names {
			files = append(files, filepath.Join("acme", name+".pem"))
		}
	}
	for _, name := range files {
		if _, _, err := bounded.ReadFile(filepath.Join(s.stateDir, name), bounded.MaxFile); errors.Is(err, fs.ErrPermission) {
			diags = append(diags, config.WithHint(config.Warnf(hcl.Range{}, "State file cannot be read", "%v.", err),
				"chown -R "+a.name+": "+s.stateDir))
		}
	}
	return diags
}
