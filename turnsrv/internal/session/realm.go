package session

import "strings"

// MaxRealmLen is the maximum length of a realm in bytes. RFC 8489 section 14.9 allows fewer than 128 characters, in up to 763
// bytes.
const MaxRealmLen = 127

// realm returns the realm to send to the client of r, RFC 8489 section 9.2.1: that of the first ORIGIN with a configured realm,
// otherwise that of the client's TLS server name.
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

// realmNamed returns realm, if it is one that the server sends to clients. It allocates no memory.
func (s *Shared) realmNamed(realm []byte) (named string, ok bool) {
	if string(realm) == s.config.Realm {
		return s.config.Realm, true
	}
	for _, other := range s.config.Realms {
		if string(realm) == other {
			return other, true
		}
	}
	return "", false
}

// Limits on ORIGIN. A nested page has several, and turnutils_uclient sends three. Each consists of a scheme, a name (RFC 1035
// section 2.3.4) and a port.
const (
	maxOrigins   = 8
	maxOriginLen = 300
)

// originHost returns the host of an origin such as https://example.org:8443 (RFC 6454 section 6.2) in lower case. A value of
// another form is returned whole in lower case, because users of coturn put bare names there.
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
