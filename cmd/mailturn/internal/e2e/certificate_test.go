package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificates are files in PEM: a CA, and a certificate that it signed.
type certificates struct {
	ca, cert, key string
	roots         *x509.CertPool // the CA
}

// newCertificates makes a certificate for relayName and relayName6.
func newCertificates(t *testing.T) certificates { return newCertificatesFor(t, relayName, relayName6) }

func newCertificatesFor(t *testing.T, names ...string) certificates {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	notBefore, notAfter := time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)

	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mailturn test CA"}, NotBefore: notBefore, NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	must(err)
	authority, err = x509.ParseCertificate(authorityDER)
	must(err)

	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leafDER, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, authority, &leafKey.PublicKey, authorityKey)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	must(err)

	roots := x509.NewCertPool()
	roots.AddCert(authority)
	return certificates{
		ca: write("ca.pem", "CERTIFICATE", authorityDER), cert: write("cert.pem", "CERTIFICATE", leafDER),
		key: write("key.pem", "PRIVATE KEY", keyDER), roots: roots,
	}
}

// block is the tls block of a configuration.
func (c certificates) block() string {
	return fmt.Sprintf("tls {\n  cert = %q\n  key  = %q\n}\n", c.cert, c.key)
}

// environment makes programs in Python and Node trust the CA.
func (c certificates) environment() []string {
	return []string{"SSL_CERT_FILE=" + c.ca, "NODE_EXTRA_CA_CERTS=" + c.ca}
}
