package certs

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	// statInterval is the least time between two looks at the files, which handshakes pay for.
	statInterval = 5 * time.Second
	// ExpirySoon is how long before its end a certificate is warned about. Renewal by ACME clients happens 30 days
	// before the end, so at 14 days it has failed for a while.
	ExpirySoon = 14 * 24 * time.Hour
	// expiryInterval is the time between two warnings about one certificate.
	expiryInterval = 24 * time.Hour
)

// A Store holds certificates and answers TLS handshakes with them. When a file changes, the next handshake at least
// statInterval after the last look reads the pair again; a new pair that cannot be used is logged and the old one stays
// in use. All methods are safe for concurrent use.
type Store struct {
	logger *slog.Logger

	mu         sync.Mutex
	entries    []entry // fixed length; guarded by mu
	nextStat   time.Time
	nextExpiry time.Time
}

type entry struct {
	pair        Pair
	certificate *tls.Certificate
	seen        stamp // of the files when they were last read, whether or not they could be used
}

// A stamp changes when one of a pair's files does. Size and time together notice the rename that renewal tools do even
// when the new file carries an old time.
type stamp struct {
	certTime, keyTime time.Time
	certSize, keySize int64
}

func stampOf(pair Pair) stamp {
	var s stamp
	if info, err := os.Stat(pair.Cert); err == nil {
		s.certTime, s.certSize = info.ModTime(), info.Size()
	}
	if info, err := os.Stat(pair.Key); err == nil {
		s.keyTime, s.keySize = info.ModTime(), info.Size()
	}
	return s
}

// Load reads the pairs, of which there must be at least one; the first is presented to clients that ask for a name that
// no certificate has. The error joins one *Error for each pair that cannot be used.
func Load(pairs []Pair, logger *slog.Logger) (*Store, error) {
	if len(pairs) == 0 {
		return nil, errors.New("no certificate given")
	}
	entries, err := read(pairs)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s := &Store{logger: logger, entries: entries, nextStat: now.Add(statInterval)}
	s.warnExpiryLocked(now)
	return s, nil
}

// read reads all of the pairs, or returns why some cannot be used.
func read(pairs []Pair) (entries []entry, err error) {
	var errs []error
	for _, pair := range pairs {
		seen := stampOf(pair)
		certificate, err := ReadPair(pair)
		errs = append(errs, err)
		entries = append(entries, entry{pair, certificate, seen})
	}
	return entries, errors.Join(errs...)
}

// Config returns a server configuration that presents the store's certificates: TLS 1.2 or newer, session tickets on.
// alpn lists the protocols accepted; a client that sends no ALPN at all is accepted too, one that sends only others is
// refused (RFC 7301 section 3.2).
func (s *Store) Config(alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     alpn,
		GetCertificate: s.certificate,
	}
}

func (s *Store) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); !now.Before(s.nextStat) {
		s.nextStat = now.Add(statInterval)
		for i := range s.entries {
			e := &s.entries[i]
			seen := stampOf(e.pair)
			if seen == e.seen {
				continue
			}
			e.seen = seen // also of a broken pair: it is looked at again when it changes again
			certificate, err := ReadPair(e.pair)
			if err != nil {
				s.logger.Error("certificate not reloaded, the old one stays in use", "err", err)
				continue
			}
			s.replaceLocked(i, entry{e.pair, certificate, seen})
		}
		s.warnExpiryLocked(now)
	}
	for i := range s.entries {
		if hello.SupportsCertificate(s.entries[i].certificate) == nil {
			return s.entries[i].certificate, nil
		}
	}
	return s.entries[0].certificate, nil
}

// Reload reads every pair again, changed or not. If some cannot be used, all certificates stay, and the error joins one
// *Error for each of those pairs.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pairs []Pair
	for _, e := range s.entries {
		pairs = append(pairs, e.pair)
	}
	entries, err := read(pairs)
	if err != nil {
		return err
	}
	for i, e := range entries {
		s.replaceLocked(i, e)
	}
	s.warnExpiryLocked(time.Now())
	return nil
}

func (s *Store) replaceLocked(i int, e entry) {
	s.entries[i] = e
	s.nextExpiry = time.Time{}
	s.logger.Info("certificate reloaded", "file", e.pair.Cert, "expires", e.certificate.Leaf.NotAfter)
}

func (s *Store) warnExpiryLocked(now time.Time) {
	if now.Before(s.nextExpiry) {
		return
	}
	s.nextExpiry = now.Add(expiryInterval)
	for _, e := range s.entries {
		if phrase := Expiry(e.certificate.Leaf, now, ExpirySoon); phrase != "" {
			s.logger.Warn("certificate "+phrase, "file", e.pair.Cert)
		}
	}
}
