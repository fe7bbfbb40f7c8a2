package provision

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mailturn/mailturn/framework/listen"
)

// imapPorts are those on which clients expect a mail server.
var imapPorts = []uint16{993, 143}

// chooseMailServer chooses the mail server behind mailturn.
func (p *planner) chooseMailServer() {
	d := p.Dovecot
	if p.Chatmail != nil {
		p.decide("Dovecot keeps ports 143 and 993", "this is a chatmail relay, on which cmdeploy requires that")
		return
	}
	for _, port := range imapPorts {
		for _, s := range onPort(p.Sockets, "tcp", port) {
			if p.options.Upstream == "" && d != nil && s.isDovecots() || s.Addr.Addr().IsLoopback() {
				continue
			}
			hint := "move it to another port, and name that with --upstream tcp://127.0.0.1:PORT"
			if product := imapPrograms[s.Program]; product != "" {
				hint = "setup moves only Dovecot: move " + product + " to another port, for example of 127.0.0.1, and name that with --upstream tcp://127.0.0.1:PORT"
			}
			p.problem(fmt.Sprintf("%s has port %d, on which clients expect mailturn.", s.holder(), port), hint)
			return
		}
	}
	if p.options.Upstream != "" {
		p.decide("mailturn passes IMAP on to "+p.options.Upstream, "you gave --upstream")
		return
	}
	switch {
	case d == nil:
		p.problem("There is no Dovecot on this machine.", "name the IMAP server with --upstream tcp://HOST:PORT or tls://HOST:PORT")
	case d.Err != "":
		p.problem("Dovecot's configuration has an error:\n"+indent(d.Err), "fix it until doveconf -n reports no error, and run setup again")
	case d.Minor != 3 && d.Minor != 4:
		p.problem("This is Dovecot "+d.Version+".", "setup knows 2.3 and 2.4; docs/imap.md says what to do by hand")
	case !d.Active:
		p.problem("Dovecot is installed, but does not run.", "run: systemctl start dovecot")
	case !d.IMAP || len(d.publicListeners()) == 0 || len(p.publicSockets()) == 0:
		p.problem("Dovecot does not serve IMAP on port 993 or 143.", "install dovecot-imapd, or name another IMAP server with --upstream")
	default:
		p.decide("mailturn takes over Dovecot's ports for IMAP, and passes everything on to it",
			"clients ask the mail server itself about the relay; accounts, mail, POP3 and SMTP stay as they are")
	}
}

// publicSockets returns Dovecot's sockets on the ports of IMAP, except those on loopback.
func (p *planner) publicSockets() (sockets []Socket) {
	for _, s := range p.Sockets {
		if s.Network == "tcp" && slices.Contains(imapPorts, s.Addr.Port()) && s.isDovecots() && !s.Addr.Addr().IsLoopback() {
			sockets = append(sockets, s)
		}
	}
	return sockets
}

// takeovers returns where mailturn listens: where Dovecot does now.
func (p *planner) takeovers() (all []takeover) {
	for _, port := range imapPorts {
		addr := listen.Addr{Scheme: "tcp", Port: port}
		if p.overTLS(port) {
			addr.Scheme = "tls"
		}
		sockets := onPort(p.publicSockets(), "tcp", port)
		has := func(host netip.Addr) bool {
			return slices.ContainsFunc(sockets, func(s Socket) bool { return s.Addr.Addr() == host })
		}
		if has(netip.IPv4Unspecified()) && has(netip.IPv6Unspecified()) {
			all = append(all, takeover{addr, sockets}) // one for both families
			continue
		}
		for _, s := range sockets {
			addr.Host = s.Addr.Addr().String()
			all = append(all, takeover{addr, []Socket{s}})
		}
	}
	return all
}

// listenText returns an address as the configuration has it.
func listenText(addr listen.Addr) string {
	if addr.Host == "" {
		addr.Host = "*"
	}
	return addr.String()
}

// overTLS reports whether connections to a port of Dovecot begin with TLS.
func (p *planner) overTLS(port uint16) bool {
	i := slices.IndexFunc(p.Dovecot.Listeners, func(l DovecotListener) bool { return l.Port == port })
	return i >= 0 && p.Dovecot.Listeners[i].TLS
}

// localGreeting returns how a client on this machine reaches the listener at an address.
func localGreeting(addr netip.AddrPort, overTLS bool) Greeting {
	if addr.Addr().IsUnspecified() {
		local := loopbackAddr
		if addr.Addr().Is6() {
			local = netip.IPv6Loopback()
		}
		addr = netip.AddrPortFrom(local, addr.Port())
	}
	return Greeting{addr.String(), overTLS}
}

// freePort returns the first TCP port from start on that is not in use.
func (p *planner) freePort(start uint16) uint16 {
	for len(onPort(p.Sockets, "tcp", start)) > 0 {
		start++
	}
	return start
}

// planDovecot puts mailturn in front of Dovecot. First, Dovecot gets an additional port for mailturn, and mailturn is tested on a
// port of its own. Once everything else works, the ports that clients use are switched.
func (p *planner) planDovecot() {
	d := p.Dovecot
	internal := p.freePort(1143)
	off := d.publicListeners()
	takeovers := p.takeovers()
	var addresses []string
	for _, t := range takeovers {
		addresses = append(addresses, listenText(t.listen))
	}
	for _, s := range p.publicSockets() {
		p.Greets = append(p.Greets, localGreeting(s.Addr, p.overTLS(s.Addr.Port())))
	}
	p.Repair = []string{"systemctl", "restart", "dovecot.service"}
	p.decide(fmt.Sprintf("Dovecot listens on %s:%d for mailturn", loopback, internal), "the port is free, and can be reached only from this machine")

	settings := func(off []DovecotListener) File {
		text := dovecotSettings(d, internal, off)
		if before := p.DropIn.before; before != "" {
			text = strings.TrimRight(before, "\n") + "\n\n" + text
		}
		return File{Path: p.DropIn.file, Text: text, Mode: 0o644, Group: -1}
	}
	p.decide("Its settings go to "+p.DropIn.file, p.DropIn.reason)
	reload := [][]string{{"systemctl", "reload", "dovecot.service"}}
	p.Steps = append(p.Steps, Step{
		Title: fmt.Sprintf("Dovecot listens on %s:%d in addition", loopback, internal),
		Files: []File{settings(nil)},
		Do: []Action{
			checkDovecot(internal, nil),
			run("systemctl", "reload", "dovecot.service"),
			awaitGreeting(Greeting{fmt.Sprintf("%s:%d", loopback, internal), false}, ""),
		},
		UndoLast: reload,
	})
	p.planCertificate()
	upstream := fmt.Sprintf("tcp://%s:%d", loopback, internal)
	trial := Greeting{fmt.Sprintf("%s:%d", loopback, p.freePort(1993)), true}
	p.planStart(p.configuration([]string{"tls://" + trial.Address}, upstream), []Greeting{trial})
	p.Steps = append(p.Steps, Step{
		Title: "mailturn takes over the IMAP ports from Dovecot",
		Files: []File{p.configFile(p.configuration(addresses, upstream)), settings(off)},
		Do: []Action{
			checkDovecot(internal, off),
			checkConfig(),
			changeOver(takeovers, p.Greets, p.Hostname).undoneBy("systemctl", "stop", unitName),
		},
		UndoLast: reload,
	})
}

// planUpstream puts mailturn in front of another IMAP server, which has been moved by hand.
func (p *planner) planUpstream() {
	p.planCertificate()
	listen := []string{"tls://*:993", "tcp://*:143"}
	p.planStart(p.configuration(listen, p.options.Upstream), []Greeting{{loopback + ":993", true}, {loopback + ":143", false}})
	if !strings.Contains(p.options.Upstream, loopback) && !strings.Contains(p.options.Upstream, "localhost") {
		p.note("Make sure that nobody can listen in on the connection to " + p.options.Upstream + ", or use a tls:// address.")
	}
	p.note("Let the IMAP server trust the addresses of clients that mailturn passes on in the ID command. docs/imap.md shows this for Dovecot.")
}

// planStart writes the configuration and starts mailturn, and checks that it greets and relays.
func (p *planner) planStart(text string, greets []Greeting) {
	step := Step{
		Title: "mailturn starts, and is tested on this machine",
		Files: []File{p.configFile(text)},
		Do:    []Action{checkConfig()},
	}
	if !p.Enabled {
		step.Do = append(step.Do, run("systemctl", "enable", unitName).undoneBy("systemctl", "disable", unitName))
	}
	step.Do = append(step.Do, run("systemctl", "start", unitName).undoneBy("systemctl", "stop", unitName), awaitAllocation(p.relayAddress()))
	for _, g := range greets {
		step.Do = append(step.Do, awaitGreeting(g, p.Hostname))
	}
	p.Steps = append(p.Steps, step)
}

// relayAddress returns where this machine reaches its relay.
func (p *planner) relayAddress() netip.AddrPort {
	return netip.AddrPortFrom(loopbackAddr, p.Ports.TURN)
}

// configFile returns the configuration file, which mailturn's group can read.
func (p *planner) configFile(text string) File {
	return File{Path: ConfigFile, Text: text, Mode: 0o640, Group: p.Group}
}
