package coturn

import (
	"cmp"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
)

// finish decides what directives mean together.
func (i *Import) finish() {
	i.finishListen()
	i.finishRelay()
	i.finishCredentials()
	i.finishPeers()
	i.finishMetrics()
}

func (i *Import) finishMetrics() {
	if i.prometheus.Name == "" {
		for _, d := range []Directive{i.prometheusPort, i.prometheusAddress} {
			if d.Name != "" {
				i.needless(d, "prometheus is off")
			}
		}
		return
	}
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if addr, err := netip.ParseAddr(i.prometheusAddress.Value); err == nil {
		host = addr
	} else {
		i.missing(i.prometheus, "anybody could ask for the metrics, and here only this machine may: see listen and metrics_from of the endpoint")
	}
	i.metrics = "http://" + bracketed(host) + ":" + cmp.Or(i.prometheusPort.Value, "9641")
}

// bracketed is an address as it stands before a port.
func bracketed(addr netip.Addr) string {
	if addr.Is6() {
		return "[" + addr.String() + "]"
	}
	return addr.String()
}

// finishPeers makes of coturn's lists, of which the allowed one wins, ours, of which the denied one wins, and which is
// about networks that are not refused by default.
func (i *Import) finishPeers() {
	denied, _ := i.denied.IPSet() // every range in it is valid
	if i.allowLoopback {
		var loopback netipx.IPSetBuilder
		loopback.AddPrefix(netip.MustParsePrefix("127.0.0.0/8"))
		loopback.Add(netip.IPv6Loopback())
		loopback.RemoveSet(denied)
		open, _ := loopback.IPSet()
		i.allowed.AddSet(open)
	}
	allowed, _ := i.allowed.IPSet()
	i.denied.RemoveSet(allowed)
	for _, prefix := range peer.DefaultDeny() {
		i.denied.RemovePrefix(prefix)
	}
	denied, _ = i.denied.IPSet()
	i.allow, i.deny = allowed.Prefixes(), denied.Prefixes()
}

// encrypted reports whether coturn listens with TLS and DTLS.
func (i *Import) encrypted() bool { return i.cert.Value != "" && i.key.Value != "" }

func (i *Import) finishListen() {
	if i.cert.Value != "" && i.key.Value == "" {
		i.missing(i.cert, "there is no pkey beside it")
	}
	if i.key.Value != "" && i.cert.Value == "" {
		i.missing(i.key, "there is no cert beside it")
	}
	hosts := []string{"*"}
	if len(i.listenIPs) > 0 {
		hosts = nil
		for _, addr := range i.listenIPs {
			hosts = append(hosts, bracketed(addr))
		}
	}
	for _, s := range []struct {
		scheme string
		port   Directive
		there  bool
	}{
		{"udp", i.port, true}, {"tcp", i.port, true}, {"tls", i.tlsPort, i.encrypted()}, {"dtls", i.tlsPort, i.encrypted()},
	} {
		for _, host := range hosts {
			if s.there && !i.off[s.scheme] {
				i.listen = append(i.listen, s.scheme+"://"+host+":"+s.port.Value)
			}
		}
	}
	for _, d := range i.switches {
		if strings.HasSuffix(d.Name, "tls") && !i.encrypted() {
			i.needless(d, "there is no certificate")
		}
	}
	if i.tlsPort.Name != "" && !i.encrypted() {
		i.missing(i.tlsPort, "there is no certificate, and coturn does not listen there either")
	}
}

// finishRelay finds the addresses of the relay, one of each family.
func (i *Import) finishRelay() {
	const surplus = "mailturn relays from one address of each family: run another mailturn for this one"
	has := func(list []netip.Addr, family netip.Addr) bool {
		return slices.ContainsFunc(list, func(a netip.Addr) bool { return a.Is4() == family.Is4() })
	}
	for _, m := range i.external {
		if has(i.relayIP, m.public) {
			i.missing(m.Directive, surplus)
			continue
		}
		i.relayIP = append(i.relayIP, m.public)
		if m.private.IsValid() && m.private != m.public {
			i.relayBind = append(i.relayBind, m.private)
		}
	}
	external := slices.Clone(i.relayIP)
	for _, m := range i.relayIPs {
		switch addr := m.public; {
		case slices.Contains(i.relayIP, addr) || slices.Contains(i.relayBind, addr):
		case !has(i.relayIP, addr):
			i.relayIP = append(i.relayIP, addr) // guides put the public address here, and mailturn binds it where it can
		case has(external, addr) && !has(i.relayBind, addr):
			i.relayBind = append(i.relayBind, addr)
		default:
			i.missing(m.Directive, surplus)
		}
	}
}

// finishCredentials takes the secrets, or else the users: coturn looks at one of the two.
func (i *Import) finishCredentials() {
	for _, d := range i.secrets {
		if d.Value == "" {
			i.missing(d, "it is empty: anybody could make credentials")
			continue
		}
		if !plain(d.Value) {
			i.missing(d, notPlain)
			continue
		}
		i.secretTexts = append(i.secretTexts, d.Value)
	}
	shared := len(i.secrets) > 0 || i.authSecret.Name != ""
	if shared && len(i.secrets) == 0 {
		i.missing(i.authSecret, "the secrets are in coturn's database: put them into secret")
	}
	var valid credential.Users
	i.passwords = make(map[string]string)
	for _, d := range i.users {
		name, password, _ := strings.Cut(d.Value, ":")
		if key, hashed := strings.CutPrefix(password, "0x"); hashed {
			password = "ha1:" + key
		}
		if shared {
			i.missing(d, "beside a shared secret coturn does not look at its users, and mailturn would: add them to users if they are to get in")
		} else if !plain(d.Value) {
			i.missing(d, notPlain)
		} else if err := valid.Add(name, i.realm.Value, password); err != nil {
			i.missing(d, err.Error())
		} else {
			i.userNames = append(i.userNames, name)
			i.passwords[name] = password
		}
	}
}

// file is the path of a file that the configuration names.
func (i *Import) file(d Directive) string {
	if filepath.IsAbs(d.Value) {
		return d.Value
	}
	return filepath.Join(i.dir, d.Value)
}
