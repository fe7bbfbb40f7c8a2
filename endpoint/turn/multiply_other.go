//go:build !linux

package turn

// canMultiply reports whether the system distributes the clients of an address between several sockets.
const canMultiply = false

// multiply opens no sockets.
func (Socket) multiply(int) ([]Socket, error) { return nil, nil }
