//go:build !linux

package turn

// interfaceAddresses returns nothing: only on Linux is it known which addresses are temporary.
func interfaceAddresses() ([]interfaceAddress, error) { return nil, nil }
