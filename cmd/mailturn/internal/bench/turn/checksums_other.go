//go:build !linux

package turn

import (
	"context"
	"errors"
)

// computeChecksums is not called: there are no namespaces.
func (network) computeChecksums(context.Context) (restore func(), err error) {
	return nil, errors.ErrUnsupported
}
