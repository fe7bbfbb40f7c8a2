//go:build !linux

package turn

import (
	"context"
	"errors"
)

func inNamespace(context.Context, ...string) error { return errors.ErrUnsupported }

func joinNamespaces(context.Context) (_ network, leave func(), err error) {
	return network{}, nil, errors.ErrUnsupported
}

func mayJoinNamespaces() error { return errors.ErrUnsupported }
