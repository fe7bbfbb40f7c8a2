//go:build !linux

package turn

// interfaceAddresses returns nothing: which addresses are temporary is seen on Linux alone.
func interfaceAddresses() ([]interfaceAddress, error) { return nil, nil }
