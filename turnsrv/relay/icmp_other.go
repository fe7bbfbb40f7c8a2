//go:build !linux

package relay

// keepErrors does nothing: on this system, clients do not learn of ICMP errors.
func keepErrors(Socket, bool) error { return nil }

// mayBePending reports false.
func mayBePending(error) bool { return false }

// passErrors returns 0.
func (s *goroutineSocket) passErrors() int { return 0 }
