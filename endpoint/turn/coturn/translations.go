package coturn

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"go4.org/netipx"

	"github.com/mailturn/mailturn/turnsrv/peer"
)

// translation translates a directive. The error says what is wrong with the value, without showing it.
type translation func(*Import, Directive) error

// translations has the directives that are translated.
var translations = map[string]translation{
	"listening-port":     func(i *Import, d Directive) error { return i.number(&i.port, d, 1, 65535) },
	"tls-listening-port": func(i *Import, d Directive) error { return i.number(&i.tlsPort, d, 1, 65535) },
	"listening-ip":       (*Import).listeningIP,
	"relay-ip":           (*Import).relay,
	"external-ip":        (*Import).externalIP,
	"min-port":           func(i *Import, d Directive) error { return i.number(&i.minPort, d, 1024, 65535) },
	"max-port":           func(i *Import, d Directive) error { return i.number(&i.maxPort, d, 1024, 65535) },
	"no-udp":             onOff(func(i *Import, d Directive, on bool) { i.without("udp", d, on) }),
	"no-tcp":             onOff(func(i *Import, d Directive, on bool) { i.without("tcp", d, on) }),
	"no-tls":             onOff(func(i *Import, d Directive, on bool) { i.without("tls", d, on) }),
	"no-dtls":            onOff(func(i *Import, d Directive, on bool) { i.without("dtls", d, on) }),
	"dtls":               onOff(func(i *Import, d Directive, on bool) { i.without("dtls", d, !on) }),
	"realm":              setText(func(i *Import) *Directive { return &i.realm }),
	"lt-cred-mech":       (*Import).takeLongTerm,
	"use-auth-secret":    func(i *Import, d Directive) error { i.authSecret = d; return nil },
	"static-auth-secret": func(i *Import, d Directive) error {
		i.shared = true
		if d.Value == "" {
			return errors.New("it is empty: anybody could create credentials")
		}
		if err := i.text(d); err != nil {
			return err
		}
		i.secretTexts = append(i.secretTexts, d.Value)
		return nil
	},
	"user":         func(i *Import, d Directive) error { i.users = append(i.users, d); return nil },
	"cert":         setText(func(i *Import) *Directive { return &i.cert }),
	"pkey":         setText(func(i *Import) *Directive { return &i.key }),
	"user-quota":   func(i *Import, d Directive) error { return i.number(&i.userQuota, d, 0, 1<<31-1) },
	"total-quota":  func(i *Import, d Directive) error { return i.number(&i.totalQuota, d, 0, 1<<31-1) },
	"max-bps":      func(i *Import, d Directive) error { return i.number(&i.maxBPS, d, 0, 1<<59) },
	"bps-capacity": func(i *Import, d Directive) error { return i.number(&i.capacity, d, 0, 1<<59) },
	"stale-nonce": func(i *Import, d Directive) error {
		d.Value = cmp.Or(d.Value, "600")
		if n, _, ok := d.integer(); ok && n == 0 {
			i.remark(Missing, d, "a nonce that never expires: mailturn has nonce_lifetime, an hour by default")
			return nil
		}
		return i.number(&i.nonceLifetime, d, 10, 24*60*60)
	},
	"max-allocate-lifetime": func(i *Import, d Directive) error {
		d.Value = cmp.Or(d.Value, "3600")
		return i.number(&i.maxLifetime, d, 600, 24*60*60)
	},
	"channel-lifetime":    func(i *Import, d Directive) error { return i.fixedNumber(d, 600, "RFC 8656 section 12") },
	"permission-lifetime": func(i *Import, d Directive) error { return i.fixedNumber(d, 300, "RFC 8656 section 9") },
	"rest-api-separator": func(i *Import, d Directive) error {
		i.fixed(d, d.Value == "" || d.Value[0] == ':', ":", "the TURN REST API") // coturn accepts one character
		return nil
	},
	"keep-address-family": onOff(func(i *Import, d Directive, on bool) {
		if on {
			i.family = "client"
		} else {
			i.remark(Needless, d, off)
		}
	}),
	"allocation-default-address-family": func(i *Import, d Directive) error {
		switch d.Value {
		case "ipv4", "keep":
			i.family = map[string]string{"ipv4": "ipv4", "keep": "client"}[d.Value]
		case "ipv6":
			i.wantsIPv6 = d
		default:
			return errors.New("want ipv4, ipv6 or keep")
		}
		return nil
	},
	"allow-loopback-peers": onOff(func(i *Import, d Directive, on bool) {
		if !on {
			i.remark(Needless, d, off)
		}
		i.allowLoopback = on
	}),
	"prometheus":      func(i *Import, d Directive) error { i.set(&i.prometheus, d); return nil }, // on, whatever the value
	"prometheus-port": func(i *Import, d Directive) error { return i.number(&i.prometheusPort, d, 1, 65535) },
	"prometheus-address": func(i *Import, d Directive) error {
		addr, err := address(d.Value)
		if err == nil {
			d.Value = addr.String()
			i.set(&i.prometheusAddress, d)
		}
		return err
	},
	"prometheus-path": func(i *Import, d Directive) error {
		i.fixed(d, d.Value == "" || d.Value == "/metrics", "/metrics", "Prometheus")
		return nil
	},
	"allowed-peer-ip": (*Import).allowPeers,
	"denied-peer-ip":  (*Import).denyPeers,
	"verbose":         onOff((*Import).takeVerbose),
	"Verbose":         onOff((*Import).takeVerbose),
}

// onOff translates a directive that is on or off.
func onOff(take func(*Import, Directive, bool)) translation {
	return func(i *Import, d Directive) error {
		on, err := d.on()
		if err == nil {
			take(i, d, on)
		}
		return err
	}
}

// setText translates a text of which the last one counts.
func setText(field func(*Import) *Directive) translation {
	return func(i *Import, d Directive) error {
		err := i.text(d)
		if err == nil {
			i.set(field(i), d)
		}
		return err
	}
}

func (i *Import) takeLongTerm(d Directive) (err error) {
	i.longTerm = d
	i.longTermOn, err = d.on()
	return err
}

func (i *Import) takeVerbose(d Directive, on bool) {
	if !on {
		i.remark(Needless, d, off)
	}
	i.verbose = i.verbose || on
}

// without translates a directive that switches a listener of coturn off, or on again; the last one counts.
func (i *Import) without(scheme string, d Directive, without bool) {
	if !without && (scheme == "udp" || scheme == "tcp") {
		i.remark(Needless, d, off)
	}
	i.off[scheme] = without
	i.switches = append(i.switches, d)
}

// fixed adds a remark about a directive that mailturn has no choice for, unless same: then coturn does what mailturn always does.
func (i *Import) fixed(d Directive, same bool, value, source string) {
	if same {
		i.remark(Needless, d, "as "+source+" has it")
	} else {
		i.remark(Missing, d, fmt.Sprintf("it is always %s (%s)", value, source))
	}
}

func (i *Import) fixedNumber(d Directive, value int64, source string) error {
	n, _, ok := d.integer()
	if !ok && d.Value != "" {
		return errors.New("want a number")
	}
	i.fixed(d, d.Value == "" || n == value, fmt.Sprint(value), source)
	return nil
}

func (i *Import) listeningIP(d Directive) error {
	addr, err := address(d.Value)
	if err == nil {
		i.listenIPs = append(i.listenIPs, mapping{Directive: d, public: addr})
	}
	return err
}

func (i *Import) relay(d Directive) error {
	addr, err := address(d.Value)
	switch {
	case err != nil:
		return err
	case addr.IsUnspecified():
		i.remark(Needless, d, "mailturn detects the address automatically")
	default:
		i.relayIPs = append(i.relayIPs, mapping{Directive: d, public: addr})
	}
	return nil
}

func (i *Import) externalIP(d Directive) error {
	public, private, mapped := strings.Cut(d.Value, "/")
	m := mapping{Directive: d}
	var err error
	if m.public, err = address(public); err == nil && mapped {
		m.private, err = address(private)
	}
	switch {
	case err != nil:
		return errors.New("want PUBLIC or PUBLIC/PRIVATE, two IP addresses")
	case mapped && m.public.Is4() != m.private.Is4():
		return errors.New("the two addresses are of different families")
	}
	i.external = append(i.external, m)
	return nil
}

// allowPeers translates a network of allowed peers.
func (i *Import) allowPeers(d Directive) error {
	allowed, err := network(d.Value)
	if err != nil {
		return err
	}
	var set netipx.IPSetBuilder
	set.AddSet(allowed)
	set.RemovePrefix(mapped)
	if allowed, err = set.IPSet(); err != nil {
		return err
	}
	if len(allowed.Ranges()) == 0 {
		i.remark(Missing, d, "an IPv4-mapped IPv6 address is never relayed to: allow the IPv4 address itself")
		return nil
	}
	i.allowed.AddSet(allowed)
	return nil
}

// denyPeers translates a network of denied peers, unless it is refused anyway.
func (i *Import) denyPeers(d Directive) error {
	denied, err := network(d.Value)
	if err != nil {
		return err
	}
	i.denied.AddSet(denied)
	var set netipx.IPSetBuilder
	set.AddSet(denied)
	for _, prefix := range peer.DefaultDeny() {
		set.RemovePrefix(prefix)
	}
	if rest, _ := set.IPSet(); len(rest.Ranges()) == 0 {
		i.remark(Needless, d, "refused by default")
	}
	return nil
}
