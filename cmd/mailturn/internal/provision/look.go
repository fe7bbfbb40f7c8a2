package provision

import (
	"context"
	"net/netip"
	"slices"
	"strings"
)

// Facts describe a machine before setup changes it.
type Facts struct {
	System    string // such as Debian GNU/Linux 12 (bookworm)
	Addresses []netip.Addr
	Names     []Name
	Sockets   []Socket

	Dovecot      *Dovecot
	Postfix      *Postfix
	Chatmail     *Chatmail
	Certificates []Certificate
	Firewall     *Firewall
	Conntrack    *Conntrack
	FreeBytes    uint64 // the least free space of the places where setup writes

	// The state of mailturn itself.
	Unit    bool   // its unit is installed
	Active  bool   // it is running
	Enabled bool   // it starts at boot
	Config  string // its configuration; empty if there is none
	Group   int    // ID of the group mailturn
	NoGroup bool
	DropIn  dropIn // where settings for Dovecot go
}

// Paths that setup writes to.
const (
	ConfigFile = "/etc/mailturn/maddy.conf"
	SecretFile = "/var/lib/mailturn/turn.secret"
	unitName   = "mailturn.service"
	groupName  = "mailturn"
)

// Look examines the machine. It changes nothing.
func (m *Machine) Look(ctx context.Context, o Options) (*Facts, error) {
	f := &Facts{Sockets: m.sockets(), Dovecot: m.lookDovecot(ctx), Postfix: m.lookPostfix(ctx), Chatmail: m.lookChatmail(),
		Firewall: m.lookFirewall(ctx), Conntrack: m.lookConntrack(), Config: m.text(ConfigFile), FreeBytes: m.free()}
	for line := range strings.Lines(m.text("/etc/os-release")) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			f.System = unquote(value)
		}
	}
	addrs, err := m.Addresses()
	if err != nil {
		return nil, err
	}
	f.Addresses = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return a.IsLoopback() || a.IsLinkLocalUnicast() })
	if f.Dovecot != nil {
		f.DropIn = m.dropIn(f.Dovecot)
	}
	f.Certificates = m.lookCertificates(f.Dovecot, pairPaths{o.Cert, o.Key})
	f.lookNames(ctx, m, o.Hostname)
	f.Unit = m.state(ctx, unitName, "LoadState") == "loaded"
	f.Active = m.state(ctx, unitName, "ActiveState") == "active"
	f.Enabled = m.state(ctx, unitName, "UnitFileState") == "enabled"
	group, ok := m.groupID(groupName)
	f.Group, f.NoGroup = group, !ok
	return f, ctx.Err()
}

// imapPrograms contains the process names of IMAP servers and proxies, and their product names.
var imapPrograms = map[string]string{
	"cyrmaster": "Cyrus", "master": "Cyrus", "imapd": "Cyrus", "couriertcpd": "Courier", "stalwart": "Stalwart", "mox": "mox",
	"maddy": "maddy", "docker-proxy": "a container", "nginx": "nginx", "haproxy": "HAProxy", "mailturn": "mailturn",
}

// isDovecots reports whether a socket belongs to Dovecot.
func (s Socket) isDovecots() bool {
	return s.Program == "dovecot" || s.Program == "imap-login" || strings.HasPrefix(s.Program, "dovecot/")
}

// coturn returns the name of the TURN server that holds a socket, empty if it is none.
func (s Socket) turnServer() string {
	switch s.Program {
	case "turnserver", "eturnal", "chatmail-turn", "beam.smp":
		return s.Program
	}
	return ""
}
