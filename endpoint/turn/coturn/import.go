package coturn

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// A Remark is about a directive, or several consecutive ones, whose translation needs an explanation.
type Remark struct {
	Kind      Kind
	Directive Directive // the first one
	LastLine  int
	Reason    string // does not contain the directive's value, which may be a password
}

// Kind is what a remark means for the operator who migrates.
type Kind int

const (
	Needless Kind = iota // there is nothing to translate
	Doubtful             // translated, but perhaps not what the author of the file meant
	Missing              // coturn did something that mailturn does not do
	Wrong                // the value cannot be translated, and a default replaces it: the result differs from the file
)

// An Import is the part of coturn's configuration that has an equivalent in ours. Write writes it.
type Import struct {
	Remarks []Remark // in the order of the file

	dir string // to which paths of files are relative

	// As in the file.
	port, tlsPort                        Directive
	listenIPs                            []mapping       // public is the address
	off                                  map[string]bool // by scheme, for those that the file mentions
	switches                             []Directive     // that switched one on or off
	realm                                Directive
	longTerm                             Directive
	longTermOn                           bool
	authSecret                           Directive
	shared                               bool // there is a static-auth-secret, valid or not
	users                                []Directive
	external                             []mapping
	relayIPs                             []mapping // public is the address that coturn binds to
	minPort, maxPort                     Directive
	cert, key                            Directive
	userQuota, totalQuota, maxBPS        Directive
	capacity, nonceLifetime, maxLifetime Directive
	prometheus, prometheusPort           Directive
	prometheusAddress                    Directive
	family                               string
	wantsIPv6                            Directive // the default family is IPv6
	allowLoopback, verbose               bool
	allowed, denied                      netipx.IPSetBuilder

	// The combined result.
	listen             []string
	metrics            string // the address to listen on; empty if there is none
	secretTexts        []string
	userNames          []string
	passwords          map[string]string // by user name
	relayIP, relayBind []netip.Addr
	allow, deny        []netip.Prefix
}

// mapping is an external-ip: the address that peers see, and this machine's own address, if it is given.
type mapping struct {
	Directive
	public, private netip.Addr
}

// coturn's default range of relay ports.
const lowestPort, highestPort = "49152", "65535"

// Translate translates every directive, or adds a remark about it. dir is the directory of the file.
func Translate(directives []Directive, dir string) *Import {
	i := &Import{
		dir:  dir,
		off:  make(map[string]bool),
		port: Directive{Value: "3478"}, tlsPort: Directive{Value: "5349"},
		minPort: Directive{Value: lowestPort}, maxPort: Directive{Value: highestPort},
	}
	for _, d := range directives {
		take, known := translations[d.Name]
		switch reason, other := reasons[d.Name]; {
		case known:
			if err := take(i, d); err != nil {
				i.remark(Wrong, d, err.Error())
			}
		case !other:
			i.remark(Missing, d, "unknown directive")
		default:
			i.refuse(d, reason)
		}
	}
	i.finish()
	slices.SortStableFunc(i.Remarks, func(a, b Remark) int { return cmp.Compare(a.Directive.Line, b.Directive.Line) })
	i.mergeRemarks()
	return i
}

// mergeRemarks combines equal remarks on consecutive lines: guides deny twenty networks that are refused anyway.
func (i *Import) mergeRemarks() {
	var merged []Remark
	for _, r := range i.Remarks {
		if n := len(merged); n > 0 {
			last := &merged[n-1]
			if r.Directive.Name == last.Directive.Name && r.Reason == last.Reason && r.Directive.Line == last.LastLine+1 {
				last.LastLine++
				continue
			}
		}
		r.LastLine = r.Directive.Line
		merged = append(merged, r)
	}
	i.Remarks = merged
}

func (i *Import) remark(kind Kind, d Directive, reason string) {
	i.Remarks = append(i.Remarks, Remark{Kind: kind, Directive: d, Reason: reason})
}

// refuse adds a remark about a directive that is not translated.
func (i *Import) refuse(d Directive, reason reason) {
	kind, text := Missing, reason.text
	if reason.needless {
		kind = Needless
	}
	if reason.flag {
		switch on, err := d.on(); {
		case err != nil:
			kind, text = Wrong, err.Error()
		case !on:
			kind, text = Needless, off
		}
	}
	i.remark(kind, d, text)
}

// set records a directive of which the last one counts.
func (i *Import) set(field *Directive, d Directive) {
	if field.Name != "" {
		i.remark(Needless, *field, fmt.Sprintf("repeated in line %d, which applies", d.Line))
	}
	*field = d
}
