// Package acme obtains certificates from a certificate authority by ACME (RFC 8555), and renews them.
//
// Each certificate is for one name, and kept with its key in one file, from which package framework/certs presents it. So what
// serves TLS only follows files, in whatever process it runs, and goes on without the authority for as long as the certificates
// are good.
package acme

import (
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// LetsEncrypt is the directory of the default certificate authority.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// A Challenge is a way to prove to the authority that one controls a name.
type Challenge string

// The challenges.
const (
	HTTP01    Challenge = "http-01"     // RFC 8555 section 8.3
	DNS01     Challenge = "dns-01"      // RFC 8555 section 8.4
	TLSALPN01 Challenge = "tls-alpn-01" // RFC 8737
)

// Settings are what acme blocks say, as plain values.
type Settings struct {
	Names []string  // in lower case
	Dir   string    // of the account, and of the certificates: see File
	Range hcl.Range // of the first block

	Directory  string
	Roots      string // PEM; the system's if empty
	Email      string
	AgreeTerms bool
	Profile    string
	RSA        bool // keys, else ECDSA
	EABKeyID   string
	EABKey     Secret // base64url

	Challenge Challenge
	// Listen is where challenges are answered, HOST:PORT: an address to listen on for http-01, or one on which an endpoint
	// listens already for tls-alpn-01.
	Listen string
	DNS    DNSUpdate // for dns-01

	// Addresses are public ones of this machine that its interfaces may not have.
	Addresses []netip.Addr
}

// File returns the path of the file that has the certificate for a name, and its key.
func File(dir, name string) string {
	return filepath.Join(dir, strings.ToLower(name)+".pem")
}
