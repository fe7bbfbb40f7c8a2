package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mailturn/mailturn/framework/atomicfile"
)

const (
	selfSignedLifetime = 365 * 24 * time.Hour
	selfSignedRenewal  = 30 * 24 * time.Hour // a certificate with less time left is replaced
)

// SelfSigned returns a self-signed certificate (ECDSA P-256) for the DNS names and addresses in names, and for localhost, 127.0.0.1
// and ::1. It is stored in dir as selfsigned.crt and selfsigned.key (mode 0600) and reused by the next call with the same names,
// until less than 30 days of its year are left. dir is made if it does not exist, with mode 0700.
//
// A certificate that root creates belongs to the owner of dir: otherwise that user could not read its key, and would replace both.
//
// created reports whether this call has written the files. It is not safe to call concurrently with the same dir.
func SelfSigned(dir string, names []string, now time.Time) (pair Pair, created bool, err error) {
	pair = SelfSignedPair(dir)
	dnsNames, addresses := subjectNames(names)
	if old, err := ReadPair(pair); err == nil && covers(old.Leaf, dnsNames, addresses) &&
		Expiry(old.Leaf, now, selfSignedRenewal) == "" {
		return pair, false, nil
	}

	certDER, key, err := generate(dnsNames, addresses, now)
	if err != nil {
		return Pair{}, false, fmt.Errorf("make self-signed certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, false, fmt.Errorf("make self-signed certificate: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Pair{}, false, fmt.Errorf("keep self-signed certificate: %w", err)
	}
	// The key is written first: a process that dies in between leaves a pair that does not match, which the next call replaces.
	if err := writeFile(pair.Key, 0o600, "PRIVATE KEY", keyDER); err != nil {
		return Pair{}, false, fmt.Errorf("keep self-signed certificate: %w", err)
	}
	if err := writeFile(pair.Cert, 0o644, "CERTIFICATE", certDER); err != nil {
		return Pair{}, false, fmt.Errorf("keep self-signed certificate: %w", err)
	}
	return pair, true, nil
}

// SelfSignedPair returns the paths where SelfSigned stores a certificate. The files may not exist.
func SelfSignedPair(dir string) Pair {
	return Pair{Cert: filepath.Join(dir, "selfsigned.crt"), Key: filepath.Join(dir, "selfsigned.key")}
}

// subjectNames sorts the names into the two kinds of subject alternative name (RFC 5280 section 4.2.1.6).
func subjectNames(names []string) (dnsNames []string, addresses []net.IP) {
	for _, name := range append(slices.Clone(names), "localhost", "127.0.0.1", "::1") {
		if ip := net.ParseIP(name); ip != nil {
			if !slices.ContainsFunc(addresses, ip.Equal) {
				addresses = append(addresses, ip)
			}
		} else if name != "" && !slices.Contains(dnsNames, name) {
			dnsNames = append(dnsNames, name)
		}
	}
	return dnsNames, addresses
}

func covers(leaf *x509.Certificate, dnsNames []string, addresses []net.IP) bool {
	return slices.Equal(leaf.DNSNames, dnsNames) &&
		slices.EqualFunc(leaf.IPAddresses, addresses, func(a, b net.IP) bool { return a.Equal(b) })
}

func generate(dnsNames []string, addresses []net.IP, now time.Time) (der []byte, key *ecdsa.PrivateKey, err error) {
	key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"mailturn self-signed"}, CommonName: commonName(dnsNames)},
		NotBefore:             now.Add(-time.Hour), // for clients whose clocks are slow
		NotAfter:              now.Add(selfSignedLifetime),
		DNSNames:              dnsNames,
		IPAddresses:           addresses,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return der, key, err
}

// commonName returns the first name that fits in the 64 characters of a common name (RFC 5280 appendix A.1).
func commonName(dnsNames []string) string {
	for _, name := range dnsNames {
		if len(name) <= 64 {
			return name
		}
	}
	return ""
}

// writeFile replaces the file at path with one PEM block.
func writeFile(path string, mode os.FileMode, blockType string, der []byte) error {
	attributes, err := atomicfile.In(filepath.Dir(path), mode)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
	return atomicfile.Replace(path, text, attributes)
}
