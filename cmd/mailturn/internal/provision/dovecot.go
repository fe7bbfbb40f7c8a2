package provision

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Dovecot describes the Dovecot installed on this machine.
type Dovecot struct {
	Version   string // as printed by dovecot --version, such as 2.3.19.1 (9b53102964)
	Minor     int    // the 3 in 2.3
	Err       string // doveconf's errors about the configuration; empty if there are none
	Active    bool   // running under systemd
	IMAP      bool   // IMAP is among its protocols
	Listeners []DovecotListener
	Trusted   string // login_trusted_networks
	// Certificates contains the pairs of files in its configuration, the default one first.
	Certificates []pairPaths
	ConfigFile   string
}

// A DovecotListener is an inet_listener of the service imap-login.
type DovecotListener struct {
	Name string
	Port uint16
	TLS  bool
}

type pairPaths struct{ cert, key string }

// dovecotPrograms are possible paths of the program, because PATH may lack sbin.
var dovecotPrograms = []string{"/usr/sbin/dovecot", "/usr/local/sbin/dovecot"}

var dovecotVersion = regexp.MustCompile(`^2\.(\d+)`)

// lookDovecot returns nil if there is no Dovecot.
func (m *Machine) lookDovecot(ctx context.Context) *Dovecot {
	i := slices.IndexFunc(dovecotPrograms, m.exists)
	if i < 0 {
		return nil
	}
	d := &Dovecot{ConfigFile: "/etc/dovecot/dovecot.conf", Active: m.state(ctx, "dovecot.service", "ActiveState") == "active"}
	d.Version, _ = m.run(ctx, dovecotPrograms[i], "--version")
	if match := dovecotVersion.FindStringSubmatch(d.Version); match != nil {
		d.Minor, _ = strconv.Atoi(match[1])
	}
	text, err := m.run(ctx, "doveconf", "-n")
	if err != nil {
		d.Err = withoutComments(text)
		return d
	}
	private, _ := m.run(ctx, "doveconf", "-nP") // 2.3 otherwise hides where the keys are
	d.Certificates = dovecotCertificates(parseDoveconf(private))
	// -n omits settings with default values.
	text, _ = m.run(ctx, "doveconf", "protocols", "login_trusted_networks")
	globals := parseDoveconf(text)
	d.IMAP = slices.Contains(strings.Fields(find(globals, "protocols")), "imap")
	blocks(globals, "protocols", func(_ string, inner []setting) { d.IMAP = d.IMAP || find(inner, "imap") == "yes" })
	d.Trusted = find(globals, "login_trusted_networks")
	text, _ = m.run(ctx, "doveconf", "service/imap-login")
	d.Listeners = parseListeners(text)
	return d
}

// withoutComments returns doveconf's output except the versions, which are comments.
func withoutComments(text string) string {
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return strings.HasPrefix(line, "#") })
	return strings.Join(lines, "\n")
}

// parseListeners returns the listeners in doveconf's output about the service imap-login, except disabled ones.
func parseListeners(text string) (listeners []DovecotListener) {
	blocks(parseDoveconf(text), "inet_listener", func(label string, inner []setting) {
		port, err := strconv.ParseUint(find(inner, "port"), 10, 16)
		if err == nil && port != 0 {
			listeners = append(listeners, DovecotListener{label, uint16(port), find(inner, "ssl") == "yes"})
		}
	})
	return listeners
}

// dovecotCertificates returns the files of certificates. Dovecot 2.3 has a < before their paths.
func dovecotCertificates(settings []setting) (pairs []pairPaths) {
	var certs, keys []string
	for _, name := range []string{"ssl_cert", "ssl_server_cert_file", "cert_file"} {
		values(settings, name, func(value string) { certs = append(certs, strings.TrimSpace(strings.TrimPrefix(value, "<"))) })
	}
	for _, name := range []string{"ssl_key", "ssl_server_key_file", "key_file"} {
		values(settings, name, func(value string) { keys = append(keys, strings.TrimSpace(strings.TrimPrefix(value, "<"))) })
	}
	for i, cert := range certs {
		if filepath.IsAbs(cert) && i < len(keys) && filepath.IsAbs(keys[i]) {
			pairs = append(pairs, pairPaths{cert, keys[i]})
		}
	}
	return pairs
}

// uses reports whether Dovecot's configuration contains a certificate file. A nil Dovecot uses none.
func (d *Dovecot) uses(cert string) bool {
	return d != nil && slices.ContainsFunc(d.Certificates, func(p pairPaths) bool { return p.cert == cert })
}

// publicListeners returns the listeners on the ports that clients use.
func (d *Dovecot) publicListeners() (public []DovecotListener) {
	for _, l := range d.Listeners {
		if l.Port == 143 || l.Port == 993 {
			public = append(public, l)
		}
	}
	return public
}

// A dropIn is the file for settings of Dovecot: a separate file if possible, otherwise the end of an existing one.
type dropIn struct {
	file   string
	before string // existing contents of the file
	reason string
}

// dropIn returns the file for settings that Dovecot must read after all others.
func (m *Machine) dropIn(d *Dovecot) dropIn {
	main := m.text(d.ConfigFile)
	dir := filepath.Dir(d.ConfigFile)
	local := filepath.Join(dir, "local.conf")
	switch {
	case includes(main, "local.conf") && m.exists(local):
		return dropIn{local, m.text(local), "Dovecot reads it after all others"}
	case includes(main, "conf.d/*.conf"):
		return dropIn{filepath.Join(dir, "conf.d/99-mailturn.conf"), "", "Dovecot reads it after the others in this directory"}
	case includes(main, "local.conf"):
		return dropIn{local, "", "Dovecot reads it after all others"}
	default:
		return dropIn{d.ConfigFile, main, "it includes no other file that would be read after it"}
	}
}

// includes reports whether the text of a file of Dovecot includes another file.
func includes(text, name string) bool {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 2 && (fields[0] == "!include" || fields[0] == "!include_try") && (fields[1] == name || strings.HasSuffix(fields[1], "/"+name)) {
			return true
		}
	}
	return false
}

// internalListener is the name of the listener for mailturn.
const internalListener = "mailturn"

// dovecotSettings returns settings that make Dovecot listen for mailturn on a port of loopback, trust the client addresses that
// mailturn passes on, and disable the listeners in off.
func dovecotSettings(d *Dovecot, port uint16, off []DovecotListener) string {
	var b strings.Builder
	trusted := strings.Fields(d.Trusted)
	if !slices.Contains(trusted, loopback) {
		trusted = append(trusted, loopback)
	}
	address := "address"
	if d.Minor >= 4 {
		address = "listen"
	}
	b.WriteString("# Written by \"mailturn setup\"; \"mailturn setup --undo\" takes it back.\n")
	b.WriteString("# mailturn passes the addresses of its clients on, so that the log and limits see them.\n")
	fmt.Fprintf(&b, "login_trusted_networks = %s\n", strings.Join(trusted, " "))
	fmt.Fprintf(&b, "service imap-login {\n  inet_listener %s {\n    %s = %s\n    port = %d\n  }\n", internalListener, address, loopback, port)
	for i, l := range off {
		if i == 0 {
			b.WriteString("  # mailturn listens here instead.\n")
		}
		fmt.Fprintf(&b, "  inet_listener %s {\n    port = 0\n  }\n", l.Name)
	}
	b.WriteString("}\n")
	return b.String()
}

const loopback = "127.0.0.1"

var loopbackAddr = netip.MustParseAddr(loopback)

// checkDovecot checks with doveconf that the configuration is valid and has the intended listeners. A file that is read later may
// override them.
func (m *Machine) checkDovecot(ctx context.Context, port uint16, off []DovecotListener) error {
	if err := m.command(ctx, []string{"doveconf", "-n"}); err != nil {
		return err
	}
	text, err := m.Run(ctx, "doveconf", "service/imap-login")
	if err != nil {
		return &commandError{"doveconf service/imap-login", text, err}
	}
	found := false
	for _, l := range parseListeners(text) {
		found = found || l.Name == internalListener && l.Port == port
		if slices.ContainsFunc(off, func(o DovecotListener) bool { return o.Name == l.Name }) {
			return fmt.Errorf("Dovecot would still listen on port %d with inet_listener %s, because of a file that it reads later", l.Port, l.Name)
		}
	}
	if !found {
		return fmt.Errorf("Dovecot would not listen on %s:%d, because of a file that it reads later", loopback, port)
	}
	return nil
}
