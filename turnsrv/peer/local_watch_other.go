//go:build !linux

package peer

import (
	"errors"
	"fmt"
)

// LocalWatch reports when the result of LocalPrefixes may have changed. It is not supported on this system.
type LocalWatch struct{}

// WatchLocal returns an error that is errors.ErrUnsupported.
func WatchLocal() (*LocalWatch, error) {
	return nil, fmt.Errorf("watch the addresses of this machine: %w", errors.ErrUnsupported)
}

// Next is never called, because WatchLocal fails.
func (*LocalWatch) Next() error { return errors.ErrUnsupported }

// Close is never called, because WatchLocal fails.
func (*LocalWatch) Close() error { return nil }
