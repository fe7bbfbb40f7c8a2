package acme

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/miekg/dns"

	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config"
)

// Decode checks the acme blocks of a file, at least one, and returns their combined settings. It leaves to the caller Dir,
// Addresses, the Names of blocks without any, and those of Challenge (then empty) and Listen that depend on the endpoints.
func Decode(blocks []*config.ACME) (Settings, hcl.Diagnostics) {
	c, diags := merge(blocks)
	s := Settings{
		Range: c.Range, Directory: cmp.Or(c.Directory.V, LetsEncrypt), Email: c.Email.V, AgreeTerms: c.AgreeTerms.V,
		Profile: c.Profile.V, EABKeyID: c.EABKeyID.V, EABKey: Secret{strings.TrimSpace(c.EABKey.V)}, Challenge: Challenge(c.Challenge.V),
	}
	for _, block := range blocks {
		for i, name := range block.Names.V {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			if diag := CheckName(block.Names.At(i), name); diag != nil {
				diags = append(diags, diag)
			} else if !slices.Contains(s.Names, name) {
				s.Names = append(s.Names, name)
			}
		}
	}
	diags = append(diags, checkAccount(c, s)...)
	switch strings.ToLower(cmp.Or(c.KeyType.V, "ecdsa")) {
	case "ecdsa":
	case "rsa":
		s.RSA = true
	default:
		diags = append(diags, config.Errorf(c.KeyType.Range, "Unknown key type", `%q: want "ecdsa" or "rsa".`, c.KeyType.V))
	}
	if path := config.Path(c.CAFile); path != "" {
		text, _, err := bounded.ReadFile(path, bounded.MaxFile)
		switch {
		case err != nil:
			diags = append(diags, config.Errorf(c.CAFile.Range, "Root certificates cannot be read", "%v.", err))
		case !x509.NewCertPool().AppendCertsFromPEM(text):
			diags = append(diags, config.Errorf(c.CAFile.Range, "Root certificates cannot be used", "%s holds no certificate in PEM.", path))
		}
		s.Roots = string(text)
	}
	return s, append(diags, s.decodeChallenge(c)...)
}

// merge combines several blocks into one, and returns errors about attributes with different values.
func merge(blocks []*config.ACME) (merged config.ACME, diags hcl.Diagnostics) {
	merged.Block = blocks[0].Block
	for _, b := range blocks {
		for _, attribute := range []struct {
			name     string
			into, of *config.Value[string]
		}{
			{"email", &merged.Email, &b.Email}, {"directory", &merged.Directory, &b.Directory}, {"ca_file", &merged.CAFile, &b.CAFile},
			{"profile", &merged.Profile, &b.Profile}, {"key_type", &merged.KeyType, &b.KeyType},
			{"eab_key_id", &merged.EABKeyID, &b.EABKeyID}, {"eab_key", &merged.EABKey, &b.EABKey},
			{"challenge", &merged.Challenge, &b.Challenge}, {"http_listen", &merged.HTTPListen, &b.HTTPListen},
		} {
			diags = append(diags, take(attribute.name, attribute.into, attribute.of)...)
		}
		diags = append(diags, take("agree_to_terms", &merged.AgreeTerms, &b.AgreeTerms)...)
		switch {
		case b.DNS == nil:
		case merged.DNS == nil:
			merged.DNS = b.DNS
		default:
			diags = append(diags, contradiction("dns", b.DNS.Range, merged.DNS.Range))
		}
	}
	return merged, diags
}

// take copies the value of an attribute into the merged block.
func take[T comparable](name string, into, of *config.Value[T]) hcl.Diagnostics {
	switch {
	case !of.Set || into.Set && into.V == of.V:
		return nil
	case into.Set:
		return hcl.Diagnostics{contradiction(name, of.Range, into.Range)}
	}
	*into = *of
	return nil
}

func contradiction(name string, rng, first hcl.Range) *hcl.Diagnostic {
	return config.WithHint(config.Errorf(rng, "ACME blocks differ", "%s is also set at %s: one account serves the whole file.", name, config.Place(first)),
		"set it in one acme block, and only names in the others")
}

// checkAccount checks the attributes of the account.
func checkAccount(c config.ACME, s Settings) (diags hcl.Diagnostics) {
	if address, err := mail.ParseAddress(c.Email.V); !c.Email.Set {
		diags = append(diags, config.WithHint(config.Errorf(c.Range, "No address for the certificate authority", "The acme block has no email."),
			`add email = "postmaster@example.org", with an address of yours`))
	} else if err != nil || address.Address != c.Email.V {
		diags = append(diags, config.Errorf(c.Email.Range, "Not a mail address", "%q: want one address, such as postmaster@example.org.", c.Email.V))
	}
	u, err := url.Parse(s.Directory)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		diags = append(diags, config.Errorf(c.Directory.Range, "Not a directory URL", "%q: want https://HOST/PATH.", s.Directory))
	} else if strings.HasSuffix(u.Hostname(), ".letsencrypt.org") && !s.AgreeTerms {
		diags = append(diags, config.WithHint(config.Errorf(c.Range, "Terms of service not agreed to",
			"Let's Encrypt issues certificates only to those who agree to https://letsencrypt.org/repository/."), "read them, and add agree_to_terms = true"))
	}
	if c.EABKeyID.Set != c.EABKey.Set {
		diags = append(diags, config.Errorf(c.Range, "External account is incomplete", "eab_key_id and eab_key belong together."))
	} else if _, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s.EABKey.text, "=")); err != nil {
		diags = append(diags, config.Errorf(c.EABKey.Range, "Key of the external account cannot be used", "It is not in base64url."))
	}
	return diags
}

// decodeChallenge decodes the attributes of the challenges.
func (s *Settings) decodeChallenge(c config.ACME) (diags hcl.Diagnostics) {
	switch s.Challenge {
	case "":
		if c.DNS != nil {
			s.Challenge = DNS01
		} else if c.HTTPListen.Set {
			s.Challenge = HTTP01
		}
	case HTTP01, TLSALPN01, DNS01:
	default:
		return hcl.Diagnostics{config.Errorf(c.Challenge.Range, "Unknown challenge", `%q: want "http-01", "tls-alpn-01" or "dns-01".`, s.Challenge)}
	}
	if (s.Challenge == DNS01) != (c.DNS != nil) {
		diags = append(diags, config.WithHint(config.Errorf(c.Challenge.Range, "Challenge does not match the dns block",
			"challenge is %q: dns-01 requires a dns block, and the other challenges do not use it.", s.Challenge), "add or remove the dns block"))
	} else if c.DNS != nil {
		update, dnsDiags := decodeDNS(c.DNS)
		s.DNS, diags = update, append(diags, dnsDiags...)
	}
	listen := cmp.Or(c.HTTPListen.V, ":80")
	s.ListenRange = s.Range
	if c.HTTPListen.Set {
		s.ListenRange = c.HTTPListen.Range
	}
	if host, port, err := net.SplitHostPort(listen); err != nil || badPort(port) {
		diags = append(diags, config.Errorf(c.HTTPListen.Range, "Not a listening address", "%q: want HOST:PORT or :PORT.", listen))
	} else if _, err := netip.ParseAddr(host); host != "" && err != nil {
		diags = append(diags, config.Errorf(c.HTTPListen.Range, "Not a listening address", "%q: want an IP address before the port, or nothing.", host))
	} else if c.HTTPListen.Set && s.Challenge != "" && s.Challenge != HTTP01 {
		diags = append(diags, config.Warnf(c.HTTPListen.Range, "Address is not used", "http_listen is for http-01, and challenge is %q.", s.Challenge))
	} else if s.Challenge == "" || s.Challenge == HTTP01 {
		s.Listen = listen
	}
	return diags
}

func badPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err != nil || port == 0
}

// CheckName returns why no authority issues a certificate for a name, or nil. A name may begin with "*.": see CheckWildcards.
func CheckName(rng hcl.Range, name string) *hcl.Diagnostic {
	name = strings.TrimPrefix(name, wildcard)
	_, valid := dns.IsDomainName(name)
	_, err := netip.ParseAddr(name)
	switch {
	case err == nil:
		return config.WithHint(config.Errorf(rng, "Certificate for an address", "%s: certificates are issued for host names.", name), "use a name that has this address in DNS")
	case name == "" || !valid || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "":
		return config.Errorf(rng, "Not a host name", "%q: want letters, digits and hyphens between dots (RFC 1123 section 2.1).", name)
	case name == "localhost" || strings.HasSuffix(name, ".localhost"):
		return config.WithHint(config.Errorf(rng, "Certificate for localhost", "No authority issues a certificate for %s.", name),
			"use the name by which clients elsewhere reach this server")
	}
	return nil
}

// CheckWildcards returns an error if there is a name for whose subdomains authorities issue a certificate only after another challenge.
func (s Settings) CheckWildcards() hcl.Diagnostics {
	for _, name := range s.Names {
		if s.Challenge != DNS01 && strings.HasPrefix(name, wildcard) {
			return hcl.Diagnostics{config.WithHint(config.Errorf(s.Range, "Wildcard requires dns-01",
				"Authorities issue a certificate for %s only after dns-01, and challenge is %q.", name, s.Challenge), "add a dns block, or list the names")}
		}
	}
	return nil
}

// decodeDNS checks a dns block.
func decodeDNS(c *config.DNSUpdate) (u DNSUpdate, diags hcl.Diagnostics) {
	u = DNSUpdate{Server: c.Server.V, KeyName: dns.CanonicalName(c.KeyName.V), Key: Secret{strings.TrimSpace(c.Key.V)}}
	if c.Zone.V != "" {
		u.Zone = dns.CanonicalName(c.Zone.V)
	}
	if _, _, err := net.SplitHostPort(u.Server); err != nil {
		u.Server = net.JoinHostPort(strings.Trim(u.Server, "[]"), "53")
	}
	if !c.Server.Set {
		c.Server.Range = c.Range
	}
	if host, port, _ := net.SplitHostPort(u.Server); host == "" || badPort(port) {
		diags = append(diags, config.Errorf(c.Server.Range, "Not a name server", "server is %q: want HOST or HOST:PORT.", c.Server.V))
	}
	u.Algorithm = dns.CanonicalName(cmp.Or(c.Algorithm.V, "hmac-sha256"))
	if !slices.Contains([]string{dns.HmacSHA1, dns.HmacSHA224, dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512}, u.Algorithm) {
		diags = append(diags, config.Errorf(c.Algorithm.Range, "Unknown algorithm", "%q: want hmac-sha256 or another hmac-sha.", c.Algorithm.V))
	}
	if _, err := base64.StdEncoding.DecodeString(u.Key.text); err != nil || u.Key.text == "" || c.KeyName.V == "" {
		diags = append(diags, config.WithHint(config.Errorf(c.Range, "Key for updates cannot be used", "Want key_name, and key in base64."),
			"make one with tsig-keygen, and let the name server accept it for TXT records of _acme-challenge names"))
	}
	return u, diags
}
