package listen

import (
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// Schemes are those with which a kind of endpoint listens.
type Schemes struct {
	Protocol string   // whose they are, such as "IMAP"
	Names    []string // in lower case; the first one is proposed to whoever writes another
	Meaning  string   // what there is to choose from, in words
	// Share is true where two schemes can have one socket between them, because what arrives tells which one it is.
	Share bool
}

// Decode takes the attribute listen of an endpoint, and wants each socket to be named once. ranges has the place of each
// address: that of block, which is the endpoint's, for defaults.
func (s Schemes) Decode(v config.Value[[]Addr], block hcl.Range) (addrs []Addr, ranges []hcl.Range, diags hcl.Diagnostics) {
	if v.V != nil && len(v.V) == 0 { // nil: it could not be decoded, which has been said
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
			return addr.Port != 0 && addr.HostPort() == other.HostPort() && (!s.Share || addr.Scheme == other.Scheme)
		})
		if taken >= 0 {
			diags = append(diags, config.WithHint(config.Errorf(v.At(i), "Duplicate listening address",
				"%s and %s are the same socket.", addrs[taken], addr), "remove one of them, or give it another port"))
			continue
		}
		addrs, ranges = append(addrs, addr), append(ranges, v.At(i))
	}
	return addrs, ranges, diags
}
