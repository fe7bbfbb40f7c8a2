package session

import "strings"

// MaxRealmLen bounds a realm in bytes. RFC 8489 section 14.9 has fewer than 128 characters, which may be 763 bytes.
const MaxRealmLen = 127

// realm returns the realm that the client who sent r is told of, RFC 8489 section 9.2.1: that of the first ORIGIN which
// stands for one, or of the name that it has given in TLS.
func (s *Shared) realm(r *request) string {
	if len(s.config.Realms) == 0 {
		return s.config.Realm
	}
	for _, value := range r.webOrigins {
		if realm, ok := s.config.Realms[originHost(value)]; ok {
			return realm
		}
	}
	if stream := r.client.Stream; stream != nil {
		if realm, ok := s.config.Realms[stream.Name()]; ok {
			return realm
		}
	}
	return s.config.Realm
}

// isRealm reports whether a client may have been told of realm.
func (s *Shared) isRealm(realm []byte) bool {
	if string(realm) == s.config.Realm {
		return true
	}
	for _, other := range s.config.Realms {
		if string(realm) == other {
			return true
		}
	}
	return false
}

// Bounds of what is read of ORIGIN. A page within a page has several, and turnutils_uclient sends three; each is a scheme,
// a name (RFC 1035 section 2.3.4) and a port.
const (
	maxOrigins   = 8
	maxOriginLen = 300
)

// originHost returns the host of an origin such as https://example.org:8443 (RFC 6454 section 6.2) in lower case, and
// whatever is not of that form in lower case too: coturn's users write names there.
func originHost(value []byte) string {
	if len(value) > maxOriginLen {
		return ""
	}
	host := strings.ToLower(string(value))
	if _, rest, found := strings.Cut(host, "://"); found {
		host = rest
	}
	host, _, _ = strings.Cut(host, "/")
	host, _, _ = strings.Cut(host, ":")
	return host
}
