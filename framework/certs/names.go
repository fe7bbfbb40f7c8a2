package certs

import (
	"slices"
	"strings"
)

// Has reports whether one of the certificates in use is for a host name, or one that an authority has yet to issue. A nil Store has
// none.
func (s *Store) Has(name string) bool {
	if s == nil || name == "" {
		return false
	}
	for _, certificate := range *s.inUse.Load() {
		if certificate != nil && certificate.Leaf.VerifyHostname(name) == nil {
			return true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.pairs, func(pair Pair) bool { return pair.Name != "" && Covers(pair.Name, name) })
}

// Covers reports whether a certificate for pattern, which may begin with "*.", is valid for name (RFC 9525 section 6.3).
func Covers(pattern, name string) bool {
	pattern, name = normal(pattern), normal(name)
	if domain, wildcard := strings.CutPrefix(pattern, "*."); wildcard {
		_, parent, found := strings.Cut(name, ".")
		return found && parent == domain
	}
	return pattern == name
}

func normal(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
