package listen

import (
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// Schemes are the schemes that a kind of endpoint accepts.
type Schemes struct {
	Protocol string   // whose they are, such as "IMAP"
	Names    []string // in lower case; diagnostics propose the first one
	Meaning  string   // the choices, in words
	// Share reports whether two schemes can share one socket, because what arrives shows which one it is.
	Share bool
}

// Decode checks the attribute listen of an endpoint, which must not name a socket twice, except that it may have the unspecified
// addresses of both families. Without Share, addrs then has the first of the two. ranges are the places of addrs; defaults have that
// of block, the endpoint.
func (s Schemes) Decode(v config.Value[[]Addr], block hcl.Range) (addrs []Addr, ranges []hcl.Range, diags hcl.Diagnostics) {
	if v.V != nil && len(v.V) == 0 { // nil: it could not be decoded, which has been reported
		return nil, nil, hcl.Diagnostics{config.WithHint(config.Errorf(v.Range, "No listening address", "The list is empty, so nobody could connect."),
			"omit listen for its default")}
	}
	if !v.Set {
		v.Range = block
	}
	for i, addr := range v.V {
		if !slices.Contains(s.Names, addr.Scheme) {
			diags = append(diags, config.WithHint(config.Errorf(v.At(i), "Scheme is not one of "+s.Protocol+"'s",
				"%s has the scheme %q: want %s.", addr, addr.Scheme, s.Meaning), "write "+s.Names[0]+"://"+addr.HostPort()))
			continue
		}
		taken := slices.IndexFunc(addrs, func(other Addr) bool {
			if s.Share {
				return addr.Port != 0 && addr == other
			}
			return addr.Port != 0 && addr.SameSocket(other)
		})
		if taken >= 0 && addr.Scheme == addrs[taken].Scheme && addr != addrs[taken] {
			continue // 0.0.0.0 and [::]: one socket serves both
		}
		if taken >= 0 {
			diags = append(diags, config.WithHint(config.Errorf(v.At(i), "Duplicate listening address",
				"%s and %s are the same socket.", addrs[taken], addr), "remove one of them, or give it another port"))
			continue
		}
		addrs, ranges = append(addrs, addr), append(ranges, v.At(i))
	}
	return addrs, ranges, diags
}
