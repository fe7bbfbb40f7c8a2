//go:build !linux

package turn

import "errors"

// canMultiply reports whether the system distributes the clients of an address between several sockets.
const canMultiply = false

// multiply opens no sockets.
func (*Socket) multiply(int, func(int) error) ([]Socket, error) { return nil, nil }

func reusePort(int) error { return errors.ErrUnsupported }
