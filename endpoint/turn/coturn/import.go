package coturn

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go4.org/netipx"
	"golang.org/x/text/unicode/norm"

	"github.com/mailturn/mailturn/turnsrv/peer"
)

// A Remark is about a directive that has no counterpart in our configuration, or several in a row.
type Remark struct {
	Directive Directive // the first one
	LastLine  int
	Reason    string // without the value of the directive, which may be a password
	// Missing says that coturn did something that will not be done. Otherwise there is nothing to translate.
	Missing bool
}

// An Import is what of coturn's configuration has a meaning in ours, which is what Write writes.
type Import struct {
	Remarks []Remark // in the order of the file

	dir string // that relative paths of files start in

	// As they stand in the file.
	port, tlsPort                        Directive
	listenIPs                            []netip.Addr
	off                                  map[string]bool // by scheme
	switches                             []Directive     // that are behind it
	realm                                Directive
	authSecret                           Directive
	secrets, users                       []Directive
	external                             []mapping
	relayIPs                             []mapping // public is where coturn binds
	minPort, maxPort                     Directive
	cert, key                            Directive
	userQuota, totalQuota, maxBPS        Directive
	capacity, nonceLifetime, maxLifetime Directive
	prometheus, prometheusPort           Directive
	prometheusAddress                    Directive
	family                               string
	allowLoopback, verbose               bool
	allowed, denied                      netipx.IPSetBuilder

	// What they mean together.
	listen             []string
	metrics            string // the address to listen on, empty for none
	secretTexts        []string
	userNames          []string
	passwords          map[string]string // by user name
	relayIP, relayBind []netip.Addr
	allow, deny        []netip.Prefix
}

// mapping is an external-ip: the address that peers see, and that of this machine behind it, if it is given.
type mapping struct {
	Directive
	public, private netip.Addr
}

// Translate takes over every directive, or remarks on it. dir is the directory of the file.
func Translate(directives []Directive, dir string) *Import {
	i := &Import{
		dir:  dir,
		off:  make(map[string]bool),
		port: Directive{Value: "3478"}, tlsPort: Directive{Value: "5349"},
		minPort: Directive{Value: "49152"}, maxPort: Directive{Value: "65535"},
	}
	for _, d := range directives {
		take, known := translations[d.Name]
		switch reason, other := reasons[d.Name]; {
		case known:
			if err := take(i, d); err != nil {
				i.missing(d, err.Error())
			}
		case !other:
			i.missing(d, "coturn has no such directive, as far as is known here")
		case reason.needless || reason.flag && !d.enabled():
			i.needless(d, cmp.Or(reason.off, reason.text))
		default:
			i.missing(d, reason.text)
		}
	}
	i.finish()
	slices.SortStableFunc(i.Remarks, func(a, b Remark) int { return cmp.Compare(a.Directive.Line, b.Directive.Line) })
	i.mergeRemarks()
	return i
}

// mergeRemarks makes one remark of several on lines in a row that say the same: guides deny twenty networks that are refused
// anyway.
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

func (i *Import) missing(d Directive, reason string) {
	i.Remarks = append(i.Remarks, Remark{Directive: d, Reason: reason, Missing: true})
}

func (i *Import) needless(d Directive, reason string) {
	i.Remarks = append(i.Remarks, Remark{Directive: d, Reason: reason})
}

// set takes over a directive of which the last one counts.
func (i *Import) set(field *Directive, d Directive) {
	if field.Name != "" {
		i.needless(*field, fmt.Sprintf("line %d has it again, which counts", d.Line))
	}
	*field = d
}

// translations are the directives that are taken over. An error is the reason why one is not.
var translations = map[string]func(*Import, Directive) error{
	"listening-port":     func(i *Import, d Directive) error { return i.number(&i.port, d, 1, 65535) },
	"tls-listening-port": func(i *Import, d Directive) error { return i.number(&i.tlsPort, d, 1, 65535) },
	"listening-ip":       func(i *Import, d Directive) error { return address(&i.listenIPs, d.Value) },
	"relay-ip":           (*Import).relay,
	"external-ip":        (*Import).externalIP,
	"min-port":           func(i *Import, d Directive) error { return i.number(&i.minPort, d, 1024, 65535) },
	"max-port":           func(i *Import, d Directive) error { return i.number(&i.maxPort, d, 1024, 65535) },
	"no-udp":             func(i *Import, d Directive) error { return i.without("udp", d, d.enabled()) },
	"no-tcp":             func(i *Import, d Directive) error { return i.without("tcp", d, d.enabled()) },
	"no-tls":             func(i *Import, d Directive) error { return i.without("tls", d, d.enabled()) },
	"no-dtls":            func(i *Import, d Directive) error { return i.without("dtls", d, d.enabled()) },
	"dtls":               func(i *Import, d Directive) error { return i.without("dtls", d, !d.enabled()) },
	"realm":              (*Import).takeRealm,
	"lt-cred-mech":       func(i *Import, d Directive) error { i.needless(d, "as mailturn does anyway"); return nil },
	"use-auth-secret":    func(i *Import, d Directive) error { i.authSecret = d; return nil },
	"static-auth-secret": func(i *Import, d Directive) error { i.secrets = append(i.secrets, d); return nil },
	"user":               func(i *Import, d Directive) error { i.users = append(i.users, d); return nil },
	"cert":               func(i *Import, d Directive) error { i.set(&i.cert, d); return nil },
	"pkey":               func(i *Import, d Directive) error { i.set(&i.key, d); return nil },
	"user-quota":         func(i *Import, d Directive) error { return i.number(&i.userQuota, d, 0, 1<<31-1) },
	"total-quota":        func(i *Import, d Directive) error { return i.number(&i.totalQuota, d, 0, 1<<31-1) },
	"max-bps":            func(i *Import, d Directive) error { return i.number(&i.maxBPS, d, 0, 1<<59) },
	"bps-capacity":       func(i *Import, d Directive) error { return i.number(&i.capacity, d, 0, 1<<59) },
	"stale-nonce": func(i *Import, d Directive) error {
		d.Value = cmp.Or(d.Value, "600")
		if d.Value == "0" {
			return errors.New("a nonce that is good for ever: mailturn has nonce_lifetime, 10 minutes by default")
		}
		return i.number(&i.nonceLifetime, d, 10, 24*60*60)
	},
	"max-allocate-lifetime": func(i *Import, d Directive) error {
		d.Value = cmp.Or(d.Value, "3600")
		return i.number(&i.maxLifetime, d, 600, 24*60*60)
	},
	"channel-lifetime":    func(i *Import, d Directive) error { return i.fixed(d, "600", "RFC 8656 section 12") },
	"permission-lifetime": func(i *Import, d Directive) error { return i.fixed(d, "300", "RFC 8656 section 9") },
	"rest-api-separator":  func(i *Import, d Directive) error { return i.fixed(d, ":", "the TURN REST API") },
	"keep-address-family": func(i *Import, d Directive) error {
		if d.enabled() {
			i.family = "client"
		} else {
			i.needless(d, "off, as by default")
		}
		return nil
	},
	"allocation-default-address-family": func(i *Import, d Directive) error {
		families := map[string]string{"ipv4": "ipv4", "keep": "client"}
		if families[d.Value] == "" {
			return errors.New("clients that ask for no family get IPv4 (RFC 8656 section 7.2) or their own: see default_family")
		}
		i.family = families[d.Value]
		return nil
	},
	"allow-loopback-peers": func(i *Import, d Directive) error {
		if !d.enabled() {
			i.needless(d, "off, as by default")
		}
		i.allowLoopback = d.enabled()
		return nil
	},
	"prometheus": func(i *Import, d Directive) error {
		if !d.enabled() {
			i.needless(d, "off, as by default")
			return nil
		}
		i.set(&i.prometheus, d)
		return nil
	},
	"prometheus-port": func(i *Import, d Directive) error { return i.number(&i.prometheusPort, d, 1, 65535) },
	"prometheus-address": func(i *Import, d Directive) error {
		if err := address(new([]netip.Addr), d.Value); err != nil {
			return err
		}
		i.set(&i.prometheusAddress, d)
		return nil
	},
	"prometheus-path": func(i *Import, d Directive) error { return i.fixed(d, "/metrics", "Prometheus") },
	"allowed-peer-ip": (*Import).allowPeers,
	"denied-peer-ip":  (*Import).denyPeers,
	"verbose":         (*Import).takeVerbose,
	"Verbose":         (*Import).takeVerbose,
}

func (i *Import) takeVerbose(d Directive) error {
	if !d.enabled() {
		i.needless(d, "off, as by default")
	}
	i.verbose = i.verbose || d.enabled()
	return nil
}

// without takes over that coturn does not listen in one way, or that it does, of which the last one counts.
func (i *Import) without(scheme string, d Directive, off bool) error {
	if !off {
		i.needless(d, "mailturn listens in this way anyway")
	}
	i.off[scheme] = off
	if off {
		i.switches = append(i.switches, d)
	}
	return nil
}

// number takes over a number within bounds, of which the last one counts. coturn reads no further than its digits, and
// guides have a comment behind some: user-quota=12 # 4 streams per video call.
func (i *Import) number(field *Directive, d Directive, low, high int64) error {
	text, _, _ := strings.Cut(d.Value, "#")
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < low || n > high {
		return fmt.Errorf("want a number from %d to %d", low, high)
	}
	d.Value = strconv.FormatInt(n, 10) // without a sign, which ports may not have
	i.set(field, d)
	return nil
}

// fixed is a directive for what cannot be chosen.
func (i *Import) fixed(d Directive, value, source string) error {
	if d.Value != "" && d.Value != value {
		return fmt.Errorf("it is always %s (%s)", value, source)
	}
	i.needless(d, "as "+source+" has it")
	return nil
}

func address(list *[]netip.Addr, text string) error {
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil || addr.Zone() != "" {
		return errors.New("not an IP address")
	}
	*list = append(*list, addr.Unmap())
	return nil
}

func (i *Import) externalIP(d Directive) error {
	var addrs []netip.Addr
	for part := range strings.SplitSeq(d.Value, "/") {
		if err := address(&addrs, part); err != nil {
			return err
		}
	}
	switch len(addrs) {
	case 1:
		i.external = append(i.external, mapping{Directive: d, public: addrs[0]})
	case 2:
		i.external = append(i.external, mapping{d, addrs[0], addrs[1]})
	default:
		return errors.New("want PUBLIC or PUBLIC/PRIVATE")
	}
	return nil
}

func (i *Import) takeRealm(d Directive) error {
	if !plain(d.Value) {
		return errors.New(notPlain)
	}
	i.set(&i.realm, d)
	return nil
}

// plain reports whether HCL keeps the text as it is.
func plain(text string) bool {
	return utf8.ValidString(text) && norm.NFC.IsNormalString(text)
}

const notPlain = "it is not UTF-8 in Unicode's normal form C, which the configuration keeps as it is"

func (i *Import) relay(d Directive) error {
	var addrs []netip.Addr
	if err := address(&addrs, d.Value); err != nil {
		return err
	}
	if addrs[0].IsUnspecified() {
		i.needless(d, "mailturn finds the address by itself")
		return nil
	}
	i.relayIPs = append(i.relayIPs, mapping{Directive: d, public: addrs[0]})
	return nil
}

// addRange adds an address, a range FIRST-LAST or a prefix to a set.
func addRange(set *netipx.IPSetBuilder, text string) error {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		set.AddPrefix(prefix)
		return nil
	}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	low, errLow := netip.ParseAddr(first)
	high, errHigh := netip.ParseAddr(last)
	if errLow != nil || errHigh != nil || low.Zone()+high.Zone() != "" {
		return errors.New("not an IP address, nor a range of two")
	}
	r := netipx.IPRangeFrom(low, high)
	if !r.IsValid() {
		return errors.New("the range ends before it begins")
	}
	set.AddRange(r)
	return nil
}

// mapped are IPv4 addresses in the form of IPv6 ones (RFC 4291 section 2.5.5.2), in which no peer is reached.
var mapped = netip.MustParsePrefix("::ffff:0:0/96")

// allowPeers takes over a network that peers may be in.
func (i *Import) allowPeers(d Directive) error {
	var set netipx.IPSetBuilder
	if err := addRange(&set, d.Value); err != nil {
		return err
	}
	set.RemovePrefix(mapped)
	network, err := set.IPSet()
	switch {
	case err != nil:
		return err
	case len(network.Ranges()) == 0:
		return errors.New("an IPv4 address in the form of an IPv6 one is never relayed to: allow the IPv4 address itself")
	}
	i.allowed.AddSet(network)
	return nil
}

// denyPeers takes over a network that peers may not be in, unless it is refused anyway.
func (i *Import) denyPeers(d Directive) error {
	var set netipx.IPSetBuilder
	if err := addRange(&set, d.Value); err != nil {
		return err
	}
	network, err := set.IPSet()
	if err != nil {
		return err
	}
	i.denied.AddSet(network)
	for _, prefix := range peer.DefaultDeny() {
		set.RemovePrefix(prefix)
	}
	if rest, _ := set.IPSet(); len(rest.Ranges()) == 0 {
		i.needless(d, "refused by default")
	}
	return nil
}
