//go:build !linux

package peer

import (
	"errors"
	"fmt"
)

// LocalWatch tells when what LocalPrefixes returns may have changed.
type LocalWatch struct{}

// WatchLocal returns an error that is errors.ErrUnsupported.
func WatchLocal() (*LocalWatch, error) {
	return nil, fmt.Errorf("watch the addresses of this machine: %w", errors.ErrUnsupported)
}

// Next completes LocalWatch.
func (*LocalWatch) Next() error { return errors.ErrUnsupported }

// Close completes LocalWatch.
func (*LocalWatch) Close() error { return nil }
