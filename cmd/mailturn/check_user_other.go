//go:build !linux

package main

import (
	"errors"

	"github.com/hashicorp/hcl/v2"
)

// do is for Linux alone.
func (a *account) do(func()) error {
	return errors.New("what another user may read is checked on Linux only: leave --user out, and call check-config as " + a.name)
}

func (a *account) checkState(*setup) hcl.Diagnostics { return nil }
