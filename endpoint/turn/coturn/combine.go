package coturn

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
)

// finish evaluates directives that depend on each other.
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
				i.remark(Needless, d, "prometheus is off")
			}
		}
		return
	}
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if addr, err := netip.ParseAddr(i.prometheusAddress.Value); err == nil {
		host = addr
	} else {
		i.remark(Missing, i.prometheus, "anybody could read the metrics; here only this machine may: see listen and metrics_from of the endpoint")
	}
	i.metrics = "http://" + bracketed(host) + ":" + cmp.Or(i.prometheusPort.Value, "9641")
}

// bracketed returns an address in the form used before a port.
func bracketed(addr netip.Addr) string {
	if addr.Is6() {
		return "[" + addr.String() + "]"
	}
	return addr.String()
}

// finishPeers translates coturn's lists, in which allowed peers take precedence, into ours, in which denied peers take precedence
// and which need only the networks that are not refused by default.
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
		i.remark(Missing, i.cert, "pkey is missing")
	}
	if i.key.Value != "" && i.cert.Value == "" {
		i.remark(Missing, i.key, "cert is missing")
	}
	hosts := []string{"*"}
	if len(i.listenIPs) > 0 {
		hosts = nil
		for _, m := range i.listenIPs {
			hosts = append(hosts, bracketed(m.public))
		}
	}
	if _, said := i.off["dtls"]; !said {
		i.off["dtls"] = true
		if i.encrypted() {
			i.remark(Doubtful, i.cert, fmt.Sprintf("coturn 4.17 has DTLS only with the directive dtls, and older ones unless it says no-dtls: if clients use it, add %q to listen",
				"dtls://"+hosts[0]+":"+i.tlsPort.Value))
		}
	}
	for _, s := range []struct {
		scheme  string
		port    Directive
		present bool
	}{
		{"udp", i.port, true}, {"tcp", i.port, true}, {"tls", i.tlsPort, i.encrypted()}, {"dtls", i.tlsPort, i.encrypted()},
	} {
		for _, host := range hosts {
			if s.present && !i.off[s.scheme] {
				i.listen = append(i.listen, s.scheme+"://"+host+":"+s.port.Value)
			}
		}
	}
	for _, d := range i.switches {
		if strings.HasSuffix(d.Name, "tls") && !i.encrypted() {
			i.remark(Needless, d, "there is no certificate")
		}
	}
	if i.tlsPort.Name != "" && !i.encrypted() {
		i.remark(Missing, i.tlsPort, "there is no certificate; coturn does not listen there either")
	}
}

// finishRelay determines the addresses of the relay, one of each family, and those it binds to. coturn relays from each relay-ip,
// or else from each listening-ip, or else from every address of the machine; external-ip is what clients are told instead.
func (i *Import) finishRelay() {
	i.finishPorts()
	const surplus = "mailturn relays from one address of each family: run another mailturn for this one"
	has := func(list []netip.Addr, family netip.Addr) bool {
		return slices.ContainsFunc(list, func(a netip.Addr) bool { return a.Is4() == family.Is4() })
	}
	var private []netip.Addr // what coturn binds to, according to external-ip
	for _, m := range i.external {
		if has(i.relayIP, m.public) {
			i.remark(Missing, m.Directive, surplus)
			continue
		}
		i.relayIP = append(i.relayIP, m.public)
		if m.private.IsValid() {
			private = append(private, m.private)
		}
	}
	bound := i.relayIPs
	if len(bound) == 0 && len(i.external) > 0 { // otherwise mailturn finds the addresses that it listens on by itself
		bound = slices.DeleteFunc(slices.Clone(i.listenIPs), func(m mapping) bool { return m.public.IsUnspecified() || m.public.IsLoopback() })
	}
	external := slices.Clone(i.relayIP)
	for _, m := range bound {
		switch addr := m.public; {
		case slices.Contains(i.relayIP, addr) || slices.Contains(private, addr):
		case !has(i.relayIP, addr):
			i.relayIP = append(i.relayIP, addr) // guides put the public address here, and mailturn binds to it if it can
		case has(external, addr) && !has(private, addr):
			private = append(private, addr)
		default:
			i.remark(Missing, m.Directive, surplus)
		}
	}
	if len(bound) == 0 && len(i.relayIP) == 1 && len(private) == 1 {
		other := "IPv6"
		if i.relayIP[0].Is6() {
			other = "IPv4"
		}
		i.remark(Doubtful, i.external[0].Directive, "coturn relays from "+other+" addresses of the machine too: if it has a public one, add it to relay_ip")
	}
	if i.wantsIPv6.Name != "" {
		if len(i.relayIP) > 0 && !has(i.relayIP, netip.IPv4Unspecified()) {
			i.remark(Needless, i.wantsIPv6, "as mailturn does on an IPv6-only relay")
		} else {
			i.remark(Missing, i.wantsIPv6, "clients that request no family get an IPv4 address if there is one (RFC 8656 section 7.2), or one of their own family: see default_family")
		}
	}
	i.relayBind = slices.DeleteFunc(private, func(addr netip.Addr) bool { return slices.Contains(i.relayIP, addr) })
}

// finishPorts remarks on a range that ends before it begins, with which coturn starts.
func (i *Import) finishPorts() {
	low, _ := strconv.ParseInt(i.minPort.Value, 10, 64) // both were checked when they were translated
	high, _ := strconv.ParseInt(i.maxPort.Value, 10, 64)
	if low <= high {
		return
	}
	for _, d := range []Directive{i.minPort, i.maxPort} {
		if d.Name != "" {
			i.remark(Wrong, d, fmt.Sprintf("min-port %d is above max-port %d", low, high))
		}
	}
	i.minPort, i.maxPort = Directive{Value: lowestPort}, Directive{Value: highestPort}
}

// finishCredentials takes the secrets, or else the users: coturn uses only one of the two.
func (i *Import) finishCredentials() {
	if i.authSecret.Name != "" && !i.shared {
		i.shared = true
		i.remark(Missing, i.authSecret, "the secrets are in coturn's database: copy them to secret")
	}
	switch known := i.shared || len(i.users) > 0; {
	case i.longTerm.Name == "" && !known:
		i.remark(Missing, Directive{Name: "lt-cred-mech"}, "it is missing, as are users and secrets, so coturn serves everybody; mailturn never serves anybody without credentials")
	case i.longTerm.Name == "":
	case !i.longTermOn && !known:
		i.remark(Missing, i.longTerm, anonymous)
	case !known:
		i.remark(Missing, i.longTerm, "the users are in coturn's database: copy them to users")
	default:
		i.remark(Needless, i.longTerm, "as mailturn does anyway")
	}
	var valid credential.Users
	i.passwords = make(map[string]string)
	for _, d := range i.users {
		name, password, _ := strings.Cut(d.Value, ":")
		if key, hashed := strings.CutPrefix(password, "0x"); hashed {
			password = "ha1:" + key
		}
		if i.shared {
			i.remark(Missing, d, "with a shared secret, coturn ignores its users, and mailturn would not: add them to users if they should have access")
		} else if err := i.text(d); err != nil {
			i.remark(Wrong, d, err.Error())
		} else if err := valid.Add(name, i.realm.Value, password); err != nil {
			i.remark(Wrong, d, err.Error())
		} else {
			if len(i.userNames) == 0 && i.userQuota.Name == "" {
				i.remark(Missing, d, "coturn does not limit a user's allocations; here 40 at a time is the default: raise user_quota, or set it to 0, if many people share a user")
			}
			i.userNames = append(i.userNames, name)
			i.passwords[name] = password
		}
	}
}

// file returns the path of a file that the configuration names.
func (i *Import) file(d Directive) string {
	if filepath.IsAbs(d.Value) {
		return d.Value
	}
	return filepath.Join(i.dir, d.Value)
}
