package provision

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// minFree is how many bytes must be free: what setup writes is a hundredth of it, but mailturn and Dovecot write too.
const minFree = 16 << 20

// Plan decides what to do. It changes nothing, and reads only files that the facts name.
func (f *Facts) Plan(m *Machine, o Options) *Plan {
	p := &planner{Facts: f, m: m, options: o, relayIP: o.RelayIP, relayBind: o.RelayBind}
	p.checkMailturn()
	if f.FreeBytes < minFree {
		p.problem(fmt.Sprintf("Only %d MB are free where setup writes.", f.FreeBytes>>20), "free some space on the file systems of /etc and /var/lib")
	}
	p.chooseMailServer()
	if f.Chatmail != nil && f.Chatmail.nameless() {
		p.chooseAddressAsName()
	} else {
		p.chooseName()
	}
	if p.Hostname == "" {
		return &p.Plan
	}
	p.chooseAddresses()
	if p.name.Host != "" {
		p.chooseCertificate()
	}
	p.chooseOthers()
	p.choosePorts()
	if len(p.Problems) > 0 {
		return &p.Plan
	}
	switch {
	case f.Chatmail != nil:
		p.planChatmail()
	case o.Upstream != "":
		p.planUpstream()
	default:
		p.planDovecot()
	}
	p.planKernel()
	p.planFirewall()
	p.noteMachine()
	p.seen = make(map[string]string)
	for _, file := range p.changes() {
		if text, err := m.read(file.Path); err == nil {
			p.seen[file.Path] = string(text)
		}
	}
	return &p.Plan
}

// checkMailturn checks that mailturn is installed and not in use.
func (p *planner) checkMailturn() {
	const install = "install the Debian package, or follow \"Install from source\" in docs/install.md"
	switch {
	case !p.Unit:
		p.problem("systemd has no "+unitName+".", install)
	case p.NoGroup:
		p.problem("There is no group "+groupName+".", install)
	case p.Active:
		p.problem("mailturn is running already, with "+ConfigFile+".", "change that file, and run: systemctl reload mailturn")
	case p.Config != "" && !p.options.Overwrite:
		p.problem(ConfigFile+" exists.", "add --overwrite to have it replaced; the old one is kept, and --undo puts it back")
	}
}

// chooseName chooses the first candidate that DNS resolves to this machine.
func (p *planner) chooseName() {
	own := publicOf(p.Addresses)
	var rejected []string
	for _, n := range p.Names {
		addrs := publicOf(n.Addresses)
		switch {
		case len(n.Addresses) == 0:
			rejected = append(rejected, fmt.Sprintf("%s (%s): %s", n.Host, n.Source, cmp.Or(n.Err, "DNS has no address")))
		case len(p.relayIP) == 0 && len(addrs) == 0:
			rejected = append(rejected, fmt.Sprintf("%s (%s): DNS has only %s, which cannot be reached from the internet", n.Host, n.Source, joined(n.Addresses)))
		case len(p.relayIP) == 0 && len(own) > 0 && len(shared(addrs, own)) == 0:
			rejected = append(rejected, fmt.Sprintf("%s (%s): DNS has %s, which is not an address of this machine", n.Host, n.Source, joined(addrs)))
		default:
			p.name, p.Hostname = n, n.Host
			p.decide("The name for clients is "+n.Host, fmt.Sprintf("it comes from %s, and DNS has %s", n.Source, joined(n.Addresses)))
			return
		}
	}
	hint := "add A and AAAA records with the addresses of this machine, or give another name with --hostname"
	if len(own) > 0 {
		hint = fmt.Sprintf("add A or AAAA records with %s, or give another name with --hostname", joined(own))
	}
	if len(rejected) == 0 {
		p.problem("This machine has no name that clients elsewhere could use.", hint)
		return
	}
	p.problem("No name in DNS points to this machine:\n"+indent(strings.Join(rejected, "\n")), hint)
}

// chooseAddressAsName chooses the address of a chatmail relay without a name. There is no certificate for it.
func (p *planner) chooseAddressAsName() {
	addr := netip.MustParseAddr(strings.Trim(p.Chatmail.Domain, "[]"))
	if !addr.Is4() {
		p.problem("This chatmail relay has only the address "+p.Chatmail.Domain+".", "clients cannot use an IPv6 address as the name of a TURN server: give the relay a name")
		return
	}
	p.Hostname = addr.String()
	p.decide("Clients are told "+p.Hostname, "this chatmail relay has no name; without a name, there is no TURN over TLS")
	if len(p.relayIP) == 0 {
		p.name.Addresses = []netip.Addr{addr}
	}
}

// chooseAddresses chooses the addresses of the relay: for each family, the one in DNS. If that is not an address of this machine,
// and the machine has no public one, it is that of a NAT.
func (p *planner) chooseAddresses() {
	if len(p.relayIP) > 0 {
		p.decide("Relayed addresses are at "+joined(p.relayIP), "you gave --relay-ip")
		return
	}
	for _, is4 := range []bool{true, false} {
		family := func(addrs []netip.Addr) []netip.Addr {
			return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return a.Is4() != is4 })
		}
		named, own := family(publicOf(p.name.Addresses)), family(publicOf(p.Addresses))
		private := slices.DeleteFunc(family(p.Addresses), public)
		switch here := shared(named, own); {
		case len(here) > 0:
			p.relayIP, p.relayBind = append(p.relayIP, here[0]), append(p.relayBind, here[0])
			p.decide(fmt.Sprintf("Relayed addresses are at %v", here[0]), "it is an address of this machine, and clients find it as "+p.Hostname)
		case len(own) > 0 && len(named) > 0:
			p.problem(fmt.Sprintf("DNS has %s for %s, and this machine has %s.", joined(named), p.Hostname, joined(own)), "correct the record")
		case len(own) > 0:
			p.note(fmt.Sprintf("DNS has no %s record for %s, although this machine has %v. Clients that need it do not find the relay.", recordType(is4), p.Hostname, own[0]))
		case len(named) > 0 && is4 && len(private) > 0:
			p.relayIP, p.relayBind = append(p.relayIP, named[0]), append(p.relayBind, private[0])
			p.decide(fmt.Sprintf("Relayed addresses are at %v, and their sockets at %v", named[0], private[0]),
				"DNS has the first for "+p.Hostname+", and this machine has only the second: it is behind a NAT")
			p.note(fmt.Sprintf("The NAT must forward the ports of the relay from %v to %v without changing them.", named[0], private[0]))
		case len(named) > 0:
			p.note(fmt.Sprintf("DNS has %v for %s, which is not an address of this machine.", named[0], p.Hostname))
		}
	}
	if slices.Equal(p.relayIP, p.relayBind) {
		p.relayBind = nil // the default
	}
	if len(p.relayIP) == 0 {
		p.problem("No address of this machine can be reached from the internet by "+p.Hostname+".", "specify its public address with --relay-ip, and behind a NAT also its own one with --relay-bind")
	}
}

// chooseCertificate chooses an existing certificate, or has mailturn obtain one.
func (p *planner) chooseCertificate() {
	cert, why := chooseCertificate(p.Certificates, p.Dovecot, p.Hostname, p.m.Now())
	switch {
	case cert != nil:
		p.cert = cert
		p.decide("The certificate is "+cert.Cert, why)
		return
	case p.options.Cert != "":
		p.problem(p.options.Cert+" cannot be used: "+p.Certificates[0].problem(p.Hostname, p.m.Now())+".", "give another one with --cert and --key, or none")
		return
	}
	why = "no certificate on this machine can be used for " + p.Hostname
	var rejected []string
	for i := range p.Certificates {
		c := &p.Certificates[i]
		rejected = append(rejected, c.Cert+": "+c.problem(p.Hostname, p.m.Now()))
	}
	missing := "No certificate on this machine is for " + p.Hostname + "."
	if len(rejected) > 0 {
		missing = "No certificate on this machine can be used for " + p.Hostname + ":\n" + indent(strings.Join(rejected, "\n"))
	}
	if taken := onPort(p.Sockets, "tcp", 80); len(taken) > 0 {
		p.problem(missing, "mailturn cannot obtain one, because "+taken[0].holder()+" has port 80: obtain one with certbot, and run setup again, or name one with --cert and --key")
		return
	}
	if p.options.Email == "" || !p.options.AgreeTerms {
		p.NeedsAuthority, p.Authority = true, p.authority()
		p.problem(missing, "add --email ADDRESS and --agree-to-terms to have mailturn obtain one from "+p.authority()+", or name one with --cert and --key")
		return
	}
	p.decide("mailturn obtains a certificate from "+cmp.Or(p.options.Directory, "Let's Encrypt")+", and renews it", why+", and port 80 is free to answer the authority")
}

// authority returns the name of the certificate authority.
func (p *planner) authority() string {
	return cmp.Or(p.options.Directory, "Let's Encrypt, whose terms are at https://letsencrypt.org/repository/")
}

// Default ports of TURN.
const (
	turnPort = 3478
	tlsPort  = 5349
)

// choosePorts chooses the standard ports of TURN, or others if those are in use.
func (p *planner) choosePorts() {
	taken := func(port uint16) (s Socket, ok bool) {
		for _, network := range []string{"udp", "tcp"} {
			if found := onPort(p.Sockets, network, port); len(found) > 0 {
				return found[0], true
			}
		}
		return Socket{}, false
	}
	choose := func(standard uint16) uint16 {
		first, busy := taken(standard)
		if !busy {
			return standard
		}
		for port := standard + 1; ; port++ {
			if _, busy := taken(port); !busy {
				p.decide(fmt.Sprintf("The relay listens on port %d instead of %d", port, standard), first.holder()+" has the standard port, and keeps it")
				return port
			}
		}
	}
	p.Ports = Ports{TURN: turnPort, TLS: tlsPort, Relayed: "49152-65535"}
	if p.Chatmail == nil {
		p.Ports.TURN = choose(turnPort)
	}
	p.Ports.TLS = choose(tlsPort)
	if slices.ContainsFunc(p.Sockets, func(s Socket) bool { return s.turnServer() != "" }) && p.Chatmail == nil {
		p.Ports.Relayed = "40000-49151"
		p.decide("Relayed addresses have ports "+p.Ports.Relayed, "the other TURN server uses those above")
		p.note("To replace the other TURN server instead, see docs/coturn.md: mailturn import takes over its secret, so that issued credentials stay valid.")
	}
}

// noteMachine adds notes about settings of the machine that limit calls.
func (p *planner) noteMachine() {
	if c := p.Conntrack; c != nil && c.Max < 131072 {
		p.note(fmt.Sprintf("The kernel tracks connections, at most %d (%d now). Calls take several each, and a full table stops mail too: see docs/operating.md, Firewall and limits.", c.Max, c.Count))
	}
}

// shared returns the elements of a that are also in b.
func shared(a, b []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(a), func(addr netip.Addr) bool { return !slices.Contains(b, addr) })
}

func recordType(is4 bool) string {
	if is4 {
		return "A"
	}
	return "AAAA"
}

// joined returns a list in words.
func joined[T any](list []T) string {
	var texts []string
	for _, v := range list {
		texts = append(texts, fmt.Sprint(v))
	}
	if n := len(texts); n > 1 {
		return strings.Join(texts[:n-1], ", ") + " and " + texts[n-1]
	}
	return strings.Join(texts, "")
}
