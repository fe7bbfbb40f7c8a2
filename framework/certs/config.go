package certs

import (
	"errors"
	"os"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// DecodeAll returns the files of an endpoint's tls blocks, or the defaults if it has none. For an acme block, the caller has to
// fill in the files: see Pair.
func DecodeAll(blocks []config.TLS, defaults []Pair) (pairs []Pair, diags hcl.Diagnostics) {
	if len(blocks) == 0 {
		return defaults, nil
	}
	for _, block := range blocks {
		if block.ACME != nil {
			pairs, diags = append(pairs, Pair{ACME: block.ACME}), append(diags, checkNoFiles(block)...)
			continue
		}
		pair, blockDiags := Decode(block)
		pairs, diags = append(pairs, pair), append(diags, blockDiags...)
	}
	return pairs, diags
}

// checkNoFiles returns errors if files are set beside an acme block.
func checkNoFiles(block config.TLS) (diags hcl.Diagnostics) {
	for _, value := range []config.Value[string]{block.Cert, block.Key} {
		if value.Set {
			diags = append(diags, config.WithHint(config.Errorf(value.Range, "Certificate from two sources",
				"The block has files and an acme block."), "remove one, or give each its own tls block"))
		}
	}
	return diags
}

// Decode checks a tls block with files and returns them. It is an error if they are missing, unreadable or do not belong together,
// and a warning if everybody can read the key, or if the certificate has expired or soon will.
func Decode(block config.TLS) (pair Pair, diags hcl.Diagnostics) {
	for _, attribute := range []struct {
		name  string
		value config.Value[string]
	}{{"cert", block.Cert}, {"key", block.Key}} {
		if !attribute.value.Set || attribute.value.V == "" {
			rng := block.Range
			if attribute.value.Set {
				rng = attribute.value.Range
			}
			return Pair{}, hcl.Diagnostics{config.WithHint(config.Errorf(rng, "Certificate is incomplete",
				"The block lacks %s: it requires both cert and key.", attribute.name),
				"add "+attribute.name+` = "/path/to/file.pem"`)}
		}
	}
	pair = Pair{Cert: config.Path(block.Cert), Key: config.Path(block.Key)}
	certificate, err := ReadPair(pair)
	if certErr, ok := errors.AsType[*Error](err); ok {
		rng := block.Cert.Range
		if certErr.File == pair.Key && pair.Key != pair.Cert {
			rng = block.Key.Range
		}
		diag := config.Errorf(rng, "Certificate cannot be used", "%s: %v.", certErr.File, reason(certErr.Err))
		if certErr.Hint != "" {
			diag = config.WithHint(diag, certErr.Hint)
		}
		return Pair{}, hcl.Diagnostics{diag}
	}
	if info, err := os.Stat(pair.Key); err == nil && info.Mode().Perm()&0o004 != 0 {
		diags = append(diags, config.WithHint(config.Warnf(block.Key.Range, "Private key is readable by everybody",
			"%s has mode %#o.", pair.Key, info.Mode().Perm()), "chmod o= "+pair.Key))
	}
	if phrase := Expiry(certificate.Leaf, time.Now(), soon(certificate.Leaf)); phrase != "" {
		diags = append(diags, config.WithHint(config.Warnf(block.Cert.Range, "Certificate must be renewed",
			"%s %s.", pair.Cert, phrase), "renew it; changed files are read automatically"))
	}
	return pair, diags
}
