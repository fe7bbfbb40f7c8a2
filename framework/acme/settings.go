// Package acme obtains certificates from a certificate authority with ACME (RFC 8555), and renews them.
//
// Each certificate is for one name, and is kept with its key in one file, from which package framework/certs presents it. So TLS
// servers only watch files, in whatever process they run, and work without the authority as long as the certificates are valid.
package acme

import (
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// LetsEncrypt is the directory URL of the default certificate authority.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// A Challenge is a way to prove control of a name to the authority.
type Challenge string

// The challenges.
const (
	HTTP01    Challenge = "http-01"     // RFC 8555 section 8.3
	DNS01     Challenge = "dns-01"      // RFC 8555 section 8.4
	TLSALPN01 Challenge = "tls-alpn-01" // RFC 8737
)

// Settings are the settings of acme blocks, as plain values.
type Settings struct {
	Names []string  // in lower case; those for dns-01 may begin with "*."
	Dir   string    // for the account and the certificates: see File
	Range hcl.Range // of the first block

	Directory  string
	Roots      string // PEM; the system's roots if empty
	Email      string
	AgreeTerms bool
	Profile    string
	RSA        bool // RSA keys instead of ECDSA
	EABKeyID   string
	EABKey     Secret // base64url

	Challenge Challenge
	// Listen is where challenges are answered, HOST:PORT: for http-01, an address to listen on; for tls-alpn-01, one on which an
	// endpoint already listens.
	Listen string
	// ListenRange is where the file has http_listen, or else the first block.
	ListenRange hcl.Range
	DNS         DNSUpdate // for dns-01

	// Addresses are public addresses of this machine that its interfaces may not have.
	Addresses []netip.Addr
}

// wildcard is the beginning of a name that stands for its subdomains (RFC 8555 section 7.1.3).
const wildcard = "*."

// File returns the path of the file with the certificate for a name and its key.
func File(dir, name string) string {
	if domain, ok := strings.CutPrefix(name, wildcard); ok {
		name = "wildcard_." + domain // no character that shells interpret
	}
	return filepath.Join(dir, strings.ToLower(name)+".pem")
}
