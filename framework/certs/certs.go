// Package certs provides the TLS certificates of the listeners: read from files, chosen by server name, reloaded when the files
// change, or self-signed if there are none. Files may be those of package acme, which obtains certificates.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config"
)

// A Pair names the PEM files of one certificate chain and of its private key, which may be one file.
type Pair struct {
	Cert string // the certificate first, then the intermediates
	Key  string

	// Name is set if a certificate authority issues the certificate for that name. The files may not exist yet: until they do,
	// handshakes that need them fail.
	Name string `json:",omitempty"`
	// ACME is set between Decode and the moment at which the caller puts the files in its place: the certificates are those of
	// the block.
	ACME *config.ACME `json:"-"`
}

// An Error reports which file of a pair cannot be used, why, and what an operator can do about it.
type Error struct {
	File string
	Err  error
	Hint string // an action; may be empty
}

func (e *Error) Error() string {
	text := fmt.Sprintf("certificate file %s: %v", e.File, reason(e.Err))
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// reason is err without the file name that Error already gives, and without the prefix that crypto/tls puts in front.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "tls: ")
}

// ReadPair reads and checks the two files. Errors are of type *Error. An expired certificate is not an error: see Expiry.
func ReadPair(pair Pair) (*tls.Certificate, error) {
	certPEM, keyPEM, err := pair.readFiles()
	if err != nil {
		return nil, err
	}
	return pair.parse(certPEM, keyPEM)
}

// readFiles returns the contents of the two files. Errors are of type *Error.
func (pair Pair) readFiles() (certPEM, keyPEM []byte, err error) {
	if certPEM, _, err = bounded.ReadFile(pair.Cert, bounded.MaxFile); err != nil {
		return nil, nil, &Error{pair.Cert, err, openHint(err)}
	}
	if keyPEM, _, err = bounded.ReadFile(pair.Key, bounded.MaxFile); err != nil {
		return nil, nil, &Error{pair.Key, err, openHint(err)}
	}
	return certPEM, keyPEM, nil
}

// parse checks the contents of the two files. Errors are of type *Error.
func (pair Pair) parse(certPEM, keyPEM []byte) (*tls.Certificate, error) {
	certificate, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		file, hint := pair.Cert, "it must hold the certificate in PEM form, followed by its intermediates"
		switch text := strings.ToLower(err.Error()); {
		case strings.Contains(text, "switched"):
			hint = "swap the two files"
		case strings.Contains(text, "key"):
			file, hint = pair.Key, "it must hold the private key that belongs to "+pair.Cert+", in PEM form and without a passphrase"
		}
		return nil, &Error{file, err, hint}
	}
	return &certificate, nil
}

func openHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "check the path; relative paths start at the directory of the configuration file"
	case errors.Is(err, fs.ErrPermission):
		return "make it readable by the user that runs mailturn, for example through its group"
	case errors.Is(err, bounded.ErrNotRegular):
		return "give the path of a file"
	default:
		return ""
	}
}

// Expiry returns a phrase that says what is wrong with the validity of a certificate at a time, or "" if it is valid. "Soon" means
// within soon.
func Expiry(leaf *x509.Certificate, now time.Time, soon time.Duration) string {
	switch {
	case now.Before(leaf.NotBefore):
		return fmt.Sprintf("is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	case !now.Before(leaf.NotAfter):
		return fmt.Sprintf("expired on %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case leaf.NotAfter.Sub(now) < soon:
		return fmt.Sprintf("expires on %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	default:
		return ""
	}
}

// Soon returns how long before its expiry to warn about a certificate with that lifetime: 14 days, or a sixth of the lifetime if
// that is less. ACME clients renew when a third is left, so by then renewal has failed for a while.
func Soon(lifetime time.Duration) time.Duration { return min(expirySoon, lifetime/6) }

func soon(leaf *x509.Certificate) time.Duration { return Soon(leaf.NotAfter.Sub(leaf.NotBefore)) }

// Names returns the DNS names and the addresses that a certificate is for.
func Names(leaf *x509.Certificate) []string {
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}
