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

// do runs f with a's access rights to files, and no others. f must open them in its own goroutine. It requires root.
func (a *account) do(f func()) error {
	done := make(chan error)
	go func() {
		// On Linux each thread has its own identity. This one is never unlocked, and so ends with the goroutine.
		runtime.LockOSThread()
		err := errors.Join(unix.Setgroups(a.groups), unix.Setfsgid(a.gid), unix.Setfsuid(a.uid))
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}

// checkState checks whether files created by an earlier run can be read, and those that a later run may create can be written. It
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
