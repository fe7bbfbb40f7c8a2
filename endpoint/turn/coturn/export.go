package coturn

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// Export writes a turnserver.conf with which coturn does what a TURN endpoint of ours does, as far as it can: comments say what it
// cannot do. The file contains the endpoint's secrets and passwords. The error says which value coturn cannot read.
func Export(w io.Writer, c turn.Config) error {
	e := &exporter{}
	e.listen(c)
	e.line("realm", c.Realm)
	if err := e.credentials(c); err != nil {
		return err
	}
	e.relay(c)
	switch {
	case c.DefaultFamily == turn.Family(relay.ClientFamily):
		e.line("allocation-default-address-family", "keep")
	case c.DefaultFamily == turn.Family(relay.OnlyIPv4):
		e.line("allocation-default-address-family", "ipv4")
	case len(c.RelayIP) > 0 && !slices.ContainsFunc(c.RelayIP, netip.Addr.Is4):
		e.line("allocation-default-address-family", "ipv6") // otherwise browsers get 440
	}
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{"user-quota", int64(c.UserQuota)},
		{"total-quota", int64(c.TotalQuota)},
		{"max-bps", (c.MaxBPS + 7) / 8}, // coturn counts bytes
		{"bps-capacity", (c.TotalBPS + 7) / 8},
		{"stale-nonce", int64(c.NonceLifetime.V / time.Second)},
		{"max-allocate-lifetime", int64(c.MaxLifetime.V / time.Second)},
	} {
		if limit.value > 0 || limit.name == "user-quota" { // 0 means no limit, while import takes a missing directive for the default
			e.line(limit.name, fmt.Sprint(limit.value))
		}
	}
	if c.SourceQuota > 0 {
		e.comment("source_quota: coturn has no quota for an address")
	}
	if c.UserBytesPerDay > 0 || c.UserCalls > 0 {
		e.comment("user_bytes_per_day, user_calls: coturn does not count what a user relays, and no calls")
	}
	if c.MaxPPS != turnsrv.DefaultMaxPPS || c.UserPPS != turnsrv.DefaultMaxPPSPerUser {
		e.comment("max_pps, user_pps: coturn does not count packets")
	}
	if c.MaxPermissions != turnsrv.DefaultMaxPermissions || c.MaxChannels != turnsrv.DefaultMaxChannels {
		e.comment("max_permissions, max_channels: coturn does not limit them")
	}
	if len(c.TLS) > 0 {
		e.line("cert", c.TLS[0].Cert)
		e.line("pkey", c.TLS[0].Key)
	}
	if len(c.TLS) > 1 {
		e.comment("tls: coturn has one certificate; the others are omitted")
	}
	if len(c.UserRealms) > 0 {
		e.comment("user_realm: coturn has realms in its database; the users of %d are omitted", len(c.UserRealms))
	}
	if len(c.ProxyProtocol) > 0 {
		e.comment("proxy_protocol: coturn accepts it on a separate port, see tcp-proxy-port")
	}
	e.peers(c)
	e.text.WriteString("fingerprint\nno-software-attribute\nno-tcp-relay\nno-cli\n")
	_, err := io.WriteString(w, e.text.String())
	return err
}

type exporter struct{ text strings.Builder }

func (e *exporter) line(name, value string) { e.text.WriteString(name + "=" + value + "\n") }
func (e *exporter) comment(format string, args ...any) {
	fmt.Fprintf(&e.text, "# "+format+"\n", args...)
}

// listen writes the addresses. coturn has one port for plain TURN and one for TLS, on every address.
func (e *exporter) listen(c turn.Config) {
	ports := map[bool]uint16{} // by whether they are encrypted
	on := map[string]bool{}
	var hosts []string
	for _, a := range c.Listen {
		encrypted := a.Scheme == "tls" || a.Scheme == "dtls"
		if ports[encrypted] == 0 {
			ports[encrypted] = a.Port
		}
		if _, err := netip.ParseAddr(a.Host); err != nil && a.Host != "" {
			e.comment("listen: coturn requires an address instead of the name in %v", a)
			continue
		}
		if ports[encrypted] != a.Port {
			e.comment("listen: coturn has one port for each kind, and no other for %v", a)
			continue
		}
		on[a.Scheme] = true
		if a.Host != "" && !slices.Contains(hosts, a.Host) {
			hosts = append(hosts, a.Host)
		}
	}
	if slices.ContainsFunc(c.Listen, func(a listen.Addr) bool { return a.Host == "" }) {
		hosts = nil
	}
	for _, host := range hosts {
		e.line("listening-ip", host)
	}
	if ports[false] != 0 {
		e.line("listening-port", fmt.Sprint(ports[false]))
	}
	if ports[true] != 0 {
		e.line("tls-listening-port", fmt.Sprint(ports[true]))
	}
	for _, scheme := range []string{"udp", "tcp", "tls", "dtls"} {
		if !on[scheme] {
			e.text.WriteString("no-" + scheme + "\n")
		}
	}
	if on["dtls"] {
		e.text.WriteString("dtls\n") // required from 4.17 on; older versions warn that they do not know it
	}
}

func (e *exporter) credentials(c turn.Config) error {
	for _, secret := range c.Secrets {
		if err := e.secret("static-auth-secret", string(secret.Bytes()), "a secret"); err != nil {
			return err
		}
	}
	if len(c.Secrets) > 0 {
		e.text.WriteString("use-auth-secret\n")
		if len(c.Users) > 0 {
			e.comment("users: with a shared secret, coturn ignores users; %d are omitted", len(c.Users))
		}
		return nil
	}
	e.text.WriteString("lt-cred-mech\n")
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		password := string(c.Users[name].Bytes())
		if key, hashed := strings.CutPrefix(password, "ha1:"); hashed {
			password = "0x" + key
		}
		if strings.Contains(name, ":") {
			return fmt.Errorf("user %q: coturn ends the name at the first colon", name)
		}
		if err := e.secret("user", name+":"+password, "the password of user "+name); err != nil {
			return err
		}
	}
	return nil
}

// maxValue limits the length of a value in bytes: coturn reads lines of up to 1,023 bytes, and mistakes the rest for another
// directive.
const maxValue = 1000

// secret writes a value that must not appear in an error.
func (e *exporter) secret(name, value, what string) error {
	if strings.ContainsAny(value, "\r\n\x00") || len(value) > maxValue {
		return fmt.Errorf("%s contains a line break or a NUL, or has more than %d bytes: coturn cannot read it from a file", what, maxValue)
	}
	if strings.TrimSpace(value) != value || strings.TrimLeft(value, separators+`"`) != value {
		value = `"` + value + `"` // coturn removes the outer quotation marks, and keeps everything between them
	}
	e.line(name, value)
	return nil
}

// relay writes the addresses of the relay. coturn relays from each relay-ip, or else from each address that it listens on, and
// tells clients the external-ip for it. The form without a slash is for a relay of one family: coturn 4.6 and 4.17 also tell
// clients of the other family that address.
func (e *exporter) relay(c turn.Config) {
	for _, public := range c.RelayIP {
		private := relayedFrom(c, public)
		switch {
		case private.IsValid() && private != public:
			e.line("external-ip", public.String()+"/"+private.String())
		case private.IsValid() || len(c.RelayIP) > 1:
			e.line("external-ip", public.String()+"/"+public.String())
		default:
			e.line("external-ip", public.String())
		}
		if private.IsValid() {
			e.line("relay-ip", private.String())
		}
	}
	e.line("min-port", fmt.Sprint(c.RelayPorts.V.Min))
	e.line("max-port", fmt.Sprint(c.RelayPorts.V.Max))
}

// relayedFrom returns the address of the machine to which relay sockets of the family of public are bound, or the zero Addr if the
// configuration does not say. If there is a relay-ip, coturn does not relay for a family without one.
func relayedFrom(c turn.Config, public netip.Addr) netip.Addr {
	for _, bind := range c.RelayBind {
		if bind.Is4() == public.Is4() {
			return bind
		}
	}
	for _, a := range c.Listen {
		if addr, err := netip.ParseAddr(a.Host); err == nil && addr.Is4() == public.Is4() && !addr.IsUnspecified() && !addr.IsLoopback() {
			return addr
		}
	}
	if len(c.RelayBind) > 0 {
		return public
	}
	return netip.Addr{}
}

// ipv4Inside contains the IPv4-compatible addresses (RFC 4291 section 2.5.5.1). For coturn, a range that begins at :: contains
// every IPv4 address ("denied in the range: ::-::ffff:ffff", 4.6.1). coturn always refuses :: and ::1.
var ipv4Inside = netip.MustParsePrefix("::/96")

// peers writes the refused networks, including those that we refuse by default, and the allowed ones.
func (e *exporter) peers(c turn.Config) {
	var denied, allowed netipx.IPSetBuilder
	for _, prefix := range peer.DefaultDeny() {
		if !prefix.Addr().Is4In6() {
			denied.AddPrefix(prefix)
		}
	}
	for _, prefix := range c.Peers.Allow.V {
		denied.RemovePrefix(prefix)
		allowed.AddPrefix(prefix)
	}
	for _, prefix := range c.Peers.Deny { // takes precedence over allow here, but not in coturn
		denied.AddPrefix(prefix)
		allowed.RemovePrefix(prefix)
	}
	denied.RemovePrefix(ipv4Inside)
	reaches := func(addr netip.Addr) bool {
		return slices.ContainsFunc(c.Peers.Allow.V, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	if !slices.ContainsFunc(c.Peers.Allow.V, func(p netip.Prefix) bool {
		return p.Overlaps(netip.MustParsePrefix("224.0.0.0/4")) || p.Overlaps(netip.MustParsePrefix("ff00::/8"))
	}) {
		e.text.WriteString("no-multicast-peers\n") // it would take precedence over allowed-peer-ip
	}
	v4, v6 := reaches(netip.AddrFrom4([4]byte{127, 0, 0, 1})), reaches(netip.IPv6Loopback())
	if v4 || v6 {
		e.text.WriteString("allow-loopback-peers\n") // of both families
		if !v6 {
			denied.Add(netip.IPv6Loopback())
		}
	}
	allowed.RemovePrefix(ipv4Inside)
	if v6 {
		allowed.Add(netip.IPv6Loopback())
	}
	for _, list := range []struct {
		name string
		set  *netipx.IPSetBuilder
	}{{"allowed-peer-ip", &allowed}, {"denied-peer-ip", &denied}} {
		set, _ := list.set.IPSet() // every prefix is valid
		for _, r := range set.Ranges() {
			e.ranges(list.name, r)
		}
	}
}

// ranges writes ranges of addresses. coturn 4.6 compares IPv6 addresses byte by byte, so a range that is not a prefix lacks some of
// its addresses.
func (e *exporter) ranges(name string, r netipx.IPRange) {
	parts := []netipx.IPRange{r}
	if r.From().Is6() {
		parts = nil
		for _, prefix := range r.Prefixes() {
			parts = append(parts, netipx.RangeOfPrefix(prefix))
		}
	}
	for _, part := range parts {
		if part.From() == part.To() {
			e.line(name, part.From().String())
		} else {
			e.line(name, part.From().String()+"-"+part.To().String())
		}
	}
}
