package provision

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

// A Source is the program that a certificate belongs to.
type Source string

// Sources.
const (
	fromMailturn  Source = "mailturn"
	fromCertbot   Source = "certbot"
	fromDehydrate Source = "dehydrated"
	fromAcmeSh    Source = "acme.sh"
	fromAcmetool  Source = "acmetool"
	fromDovecot   Source = "Dovecot"
	fromFlags     Source = "--cert and --key"
)

// A Certificate is a certificate found on this machine.
type Certificate struct {
	Source     Source
	Cert, Key  string // files
	Names      []string
	NotBefore  time.Time
	NotAfter   time.Time
	SelfSigned bool
	Err        string // why it cannot be used; empty if it can

	leaf *x509.Certificate
}

// certificatePlaces are the places where programs keep certificates. The key is in the same directory. In its name, * stands for
// the name of the directory.
var certificatePlaces = []struct {
	source    Source
	cert, key string
}{
	{fromMailturn, "/etc/mailturn/fullchain.pem", "privkey.pem"},
	{fromCertbot, "/etc/letsencrypt/live/*/fullchain.pem", "privkey.pem"},
	{fromDehydrate, "/var/lib/dehydrated/certs/*/fullchain.pem", "privkey.pem"},
	{fromAcmeSh, "/root/.acme.sh/*/fullchain.cer", "*.key"},
	{fromAcmetool, "/var/lib/acme/live/*/fullchain", "privkey"},
}

// lookCertificates returns the certificates of programs that obtain them, and Dovecot's own.
func (m *Machine) lookCertificates(d *Dovecot, flags pairPaths) (found []Certificate) {
	if flags.cert != "" {
		found = append(found, m.certificate(fromFlags, flags))
	}
	add := func(source Source, p pairPaths) {
		if !slices.ContainsFunc(found, func(c Certificate) bool { return c.Cert == p.cert }) {
			found = append(found, m.certificate(source, p))
		}
	}
	for _, place := range certificatePlaces {
		for _, cert := range m.glob(place.cert) {
			dir := path.Dir(cert)
			key := strings.Replace(place.key, "*", strings.TrimSuffix(path.Base(dir), "_ecc"), 1)
			add(place.source, pairPaths{cert, path.Join(dir, key)})
		}
	}
	if d != nil {
		for _, pair := range d.Certificates {
			add(fromDovecot, pair)
		}
	}
	return found
}

// certificate reads a certificate.
func (m *Machine) certificate(source Source, p pairPaths) Certificate {
	c := Certificate{Source: source, Cert: p.cert, Key: p.key}
	pair, err := certs.ReadPair(certs.Pair{Cert: m.path(p.cert), Key: m.path(p.key)})
	if err != nil {
		c.Err = certificateError(err, p)
		return c
	}
	c.leaf = pair.Leaf
	c.Names, c.NotBefore, c.NotAfter = certs.Names(pair.Leaf), pair.Leaf.NotBefore, pair.Leaf.NotAfter
	c.SelfSigned = pair.Leaf.CheckSignatureFrom(pair.Leaf) == nil || pair.Leaf.Issuer.String() == pair.Leaf.Subject.String()
	return c
}

// certificateError describes what is wrong with a pair of files, by their names on the machine.
func certificateError(err error, p pairPaths) string {
	text := err.Error()
	if certErr, ok := errors.AsType[*certs.Error](err); ok {
		text = certErr.Err.Error()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("%s or %s does not exist", p.cert, p.key)
	}
	return text
}

// problem describes why the certificate cannot be used for a name. It returns "" if it can.
func (c *Certificate) problem(name string, now time.Time) string {
	switch {
	case c.Err != "":
		return c.Err
	case c.leaf.VerifyHostname(name) != nil:
		return "it is for " + strings.Join(c.Names, ", ")
	case c.SelfSigned:
		return "it is self-signed"
	}
	return certs.Expiry(c.leaf, now, 0)
}

// chooseCertificate returns the certificate to use for a name, or nil if there is none, and the reason. It prefers Dovecot's own,
// which clients already trust, and then the one that expires last, which is probably being renewed.
func chooseCertificate(all []Certificate, d *Dovecot, name string, now time.Time) (chosen *Certificate, reason string) {
	var usable []*Certificate
	for i := range all {
		if all[i].problem(name, now) == "" {
			usable = append(usable, &all[i])
		}
	}
	if len(usable) == 0 {
		return nil, ""
	}
	rank := func(c *Certificate) int {
		switch {
		case c.Source == fromFlags:
			return 0
		case c.Source == fromMailturn:
			return 1
		case d != nil && len(d.Certificates) > 0 && d.Certificates[0].cert == c.Cert:
			return 2
		default:
			return 3
		}
	}
	chosen = slices.MinFunc(usable, func(a, b *Certificate) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), b.NotAfter.Compare(a.NotAfter))
	})
	reason = fmt.Sprintf("it is for %s and valid until %s", strings.Join(chosen.Names, ", "), chosen.NotAfter.UTC().Format(time.DateOnly))
	switch {
	case rank(chosen) == 2:
		reason += ", and clients trust it already: it is Dovecot's"
	case rank(chosen) == 3 && len(usable) > 1:
		reason += fmt.Sprintf(", the latest of %d", len(usable))
	}
	return chosen, reason
}
