//go:build !linux

package provision

import "errors"

// storeSockets is Machine.Store of systems without systemd.
func storeSockets(int, map[string][]Descriptor) error { return errors.ErrUnsupported }
