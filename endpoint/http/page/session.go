package page

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"sync"
	"time"
)

// Bounds of sessions.
const (
	sessionLifetime = 12 * time.Hour
	sessionIdle     = time.Hour // without a request
	maxSessions     = 100
)

// sessions are the browsers that are logged in. They end with the process. The zero value is ready for use.
type sessions struct {
	mu   sync.Mutex
	live map[[sha256.Size]byte]session // by the digest of the cookie's value, which takes as long to look up whatever is sent
}

type session struct {
	key          []byte // of the Access that it was begun with
	ends, unused time.Time
}

// begin returns the cookie of a new session. If there are too many, the one that has been unused longest ends.
func (s *sessions) begin(v Visit, now time.Time) *http.Cookie {
	value := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	if len(s.live) >= maxSessions {
		var oldest [sha256.Size]byte
		for digest, candidate := range s.live {
			if present, ok := s.live[oldest]; !ok || candidate.unused.Before(present.unused) {
				oldest = digest
			}
		}
		delete(s.live, oldest)
	}
	if s.live == nil {
		s.live = make(map[[sha256.Size]byte]session)
	}
	s.live[sha256.Sum256([]byte(value))] = session{v.Access.key, now.Add(sessionLifetime), now.Add(sessionIdle)}
	return cookie(v, value, int(sessionLifetime/time.Second))
}

// valid reports whether the request belongs to a session, which it keeps from expiring.
func (s *sessions) valid(v Visit, now time.Time) bool {
	sent, err := v.Cookie(cookieName(v))
	if err != nil {
		return false
	}
	digest := sha256.Sum256([]byte(sent.Value))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	found, ok := s.live[digest]
	if !ok || subtle.ConstantTimeCompare(found.key, v.Access.key) == 0 {
		return false
	}
	found.unused = now.Add(sessionIdle)
	s.live[digest] = found
	return true
}

// end ends the session of the request, and returns the cookie that makes the browser forget its own.
func (s *sessions) end(v Visit) *http.Cookie {
	if sent, err := v.Cookie(cookieName(v)); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.live, sha256.Sum256([]byte(sent.Value)))
	}
	return cookie(v, "", -1)
}

// expire forgets what has expired. The caller holds mu.
func (s *sessions) expire(now time.Time) {
	for digest, candidate := range s.live {
		if !now.Before(candidate.ends) || !now.Before(candidate.unused) {
			delete(s.live, digest)
		}
	}
}

func cookie(v Visit, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName(v), Value: value, Path: "/", MaxAge: maxAge,
		Secure: v.Secure, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
}

// cookieName has the prefix with which browsers refuse the cookie from anything but this host over TLS (RFC 6265bis section
// 4.1.3.2).
func cookieName(v Visit) string {
	if v.Secure {
		return "__Host-mailturn"
	}
	return "mailturn"
}
