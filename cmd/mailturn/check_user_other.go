//go:build !linux

package main

import (
	"errors"

	"github.com/hashicorp/hcl/v2"
)

// do is only for Linux.
func (a *account) do(func()) error {
	return errors.New("this works on Linux only; run check-config as that user")
}

func (a *account) checkState(*setup) hcl.Diagnostics { return nil }
