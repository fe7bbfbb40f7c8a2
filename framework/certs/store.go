package certs

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/framework/acme"
)

const (
	// lookInterval is the time between two checks of the files. A check reads them: time stamps and sizes do not show a file that
	// was replaced by one of the same length and time, or a directory that was mounted over.
	lookInterval = 5 * time.Second
	// expirySoon is how long before its end a certificate is warned about. Renewal by ACME clients happens 30 days
	// before the end, so at 14 days it has failed for a while.
	expirySoon = 14 * 24 * time.Hour
	// expiryInterval is the time between two warnings about a certificate.
	expiryInterval = 24 * time.Hour
)

// A Store holds certificates and answers TLS handshakes with them. Handshakes read no files: Follow does, and applies changes. All
// methods are safe for concurrent use.
type Store struct {
	logger *slog.Logger
	inUse  atomic.Pointer[[]*tls.Certificate]

	mu         sync.Mutex // held while the files are read; guards what follows
	pairs      []Pair
	files      []files // of each pair
	nextExpiry time.Time
}

// files is what the last check found of a pair.
type files struct {
	sum     digest
	err     error  // why these contents cannot be used
	problem string // the last line logged, "" when all is well
}

// A digest identifies the contents of a pair's files.
type digest struct{ cert, key [sha256.Size]byte }

func digestOf(cert, key []byte) digest { return digest{sha256.Sum256(cert), sha256.Sum256(key)} }

// Load reads the pairs, of which there must be at least one; the first is presented to clients that ask for a name that no
// certificate has. Files that an authority issues may not exist yet. The error joins one *Error for each pair that cannot be used.
func Load(pairs []Pair, logger *slog.Logger) (*Store, error) {
	if len(pairs) == 0 {
		return nil, errors.New("no certificate given")
	}
	certificates, seen, err := read(pairs)
	if err != nil {
		return nil, err
	}
	s := &Store{logger: logger, pairs: pairs, files: seen}
	s.inUse.Store(&certificates)
	s.warnExpiryLocked(time.Now())
	return s, nil
}

// read reads all of the pairs, or returns why some cannot be used.
func read(pairs []Pair) (certificates []*tls.Certificate, seen []files, err error) {
	var errs []error
	for _, pair := range pairs {
		certPEM, keyPEM, err := pair.readFiles()
		var certificate *tls.Certificate
		if err == nil {
			certificate, err = pair.parse(certPEM, keyPEM)
		} else if pair.awaited(err) {
			err = nil
		}
		errs = append(errs, err)
		certificates = append(certificates, certificate)
		seen = append(seen, files{sum: digestOf(certPEM, keyPEM)})
	}
	return certificates, seen, errors.Join(errs...)
}

// Config returns a server configuration that presents the store's certificates: TLS 1.2 or newer, session tickets on.
// alpn lists the protocols accepted; a client that sends no ALPN at all is accepted too, one that sends only others is
// refused (RFC 7301 section 3.2).
func (s *Store) Config(alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     alpn,
		GetCertificate: s.certificate,
		// An authority that checks whether a name is ours may connect to any listener.
		GetConfigForClient: acme.AnswerTLS,
	}
}

func (s *Store) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	var first *tls.Certificate
	for _, certificate := range *s.inUse.Load() {
		if certificate == nil {
			continue
		}
		if hello.SupportsCertificate(certificate) == nil {
			return certificate, nil
		}
		if first == nil {
			first = certificate
		}
	}
	if first == nil {
		return nil, errNone
	}
	return first, nil
}

// errNone is reported to clients as internal_error (RFC 8446 section 6.2).
var errNone = errors.New("the certificate authority has not issued a certificate yet")

// awaited reports whether err, the error of reading the files, means that the authority has not issued the certificate yet.
func (pair Pair) awaited(err error) bool { return pair.Name != "" && errors.Is(err, fs.ErrNotExist) }

// Follow checks the files every few seconds until ctx is done, and applies changes. A pair that cannot be read or used is logged
// once and tried again at each check; its old certificate stays in use meanwhile. Follow also warns about certificates that expire. A nil Store has none.
func (s *Store) Follow(ctx context.Context) {
	if s == nil {
		return
	}
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.look()
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.pairs {
		s.lookAtLocked(i)
	}
	s.warnExpiryLocked(time.Now())
}

// lookAtLocked reads the files of pair i, and replaces its certificate if they hold another one that can be used.
func (s *Store) lookAtLocked(i int) {
	pair, f := s.pairs[i], &s.files[i]
	certPEM, keyPEM, err := pair.readFiles()
	replaced := false
	if err == nil {
		if sum := digestOf(certPEM, keyPEM); sum != f.sum {
			var certificate *tls.Certificate
			certificate, f.err = pair.parse(certPEM, keyPEM)
			f.sum = sum
			if replaced = f.err == nil; replaced {
				certificates := slices.Clone(*s.inUse.Load())
				certificates[i] = certificate
				s.inUse.Store(&certificates)
				s.replacedLocked(i)
			}
		}
		err = f.err
	} else if pair.awaited(err) && (*s.inUse.Load())[i] == nil {
		err = nil
	}
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem == f.problem {
		return
	}
	f.problem = problem
	switch {
	case err != nil:
		s.logger.Error("certificate not reloaded, the old one stays in use", "err", err)
	case !replaced && (*s.inUse.Load())[i] != nil:
		s.logger.Info("certificate readable again, unchanged", "file", pair.Cert)
	}
}

// Prepare reads pairs, changed or not, and returns a function that replaces the current ones with them. If some cannot be used, the
// error joins one *Error for each of those pairs. A nil Store reads none.
func (s *Store) Prepare(pairs []Pair) (commit func(), err error) {
	if s == nil {
		return func() {}, nil
	}
	certificates, seen, err := read(pairs)
	if err != nil {
		return nil, fmt.Errorf("the certificate in use stays: %w", err)
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inUse.Store(&certificates)
		s.pairs, s.files = pairs, seen
		for i := range s.pairs {
			if certificates[i] != nil {
				s.replacedLocked(i)
			}
		}
		s.warnExpiryLocked(time.Now())
	}, nil
}

// replacedLocked logs that the certificate of pair i was replaced.
func (s *Store) replacedLocked(i int) {
	s.nextExpiry = time.Time{}
	leaf := (*s.inUse.Load())[i].Leaf
	s.logger.Info("certificate reloaded", "file", s.pairs[i].Cert, "expires", leaf.NotAfter)
}

func (s *Store) warnExpiryLocked(now time.Time) {
	if now.Before(s.nextExpiry) {
		return
	}
	s.nextExpiry = now.Add(expiryInterval)
	for i, certificate := range *s.inUse.Load() {
		if certificate == nil {
			continue
		}
		if phrase := Expiry(certificate.Leaf, now, soon(certificate.Leaf)); phrase != "" {
			s.logger.Warn("certificate "+phrase, "file", s.pairs[i].Cert)
		}
	}
}

// Ends returns when each certificate in use expires, by the file that it was read from. For one that has not been issued yet this
// is 1970, so that alerts notice it.
func (s *Store) Ends() map[string]time.Time {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ends := make(map[string]time.Time)
	for i, certificate := range *s.inUse.Load() {
		ends[s.pairs[i].Cert] = time.Unix(0, 0)
		if certificate != nil {
			ends[s.pairs[i].Cert] = certificate.Leaf.NotAfter
		}
	}
	return ends
}
