//go:build !linux

package peer

import "net/netip"

// localRoutes returns nil. LocalPrefixes still returns the addresses of the interfaces.
func localRoutes() ([]netip.Prefix, error) { return nil, nil }
