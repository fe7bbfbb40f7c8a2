package provision

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/peer"
)

// A Name is a name by which clients may reach this machine.
type Name struct {
	Host      string
	Source    string // where it was found
	Addresses []netip.Addr
	Err       string // why DNS has no addresses
}

// lookUpTimeout limits the time for all lookups together.
const lookUpTimeout = 8 * time.Second

// lookNames returns the candidates in order of preference, with their addresses in DNS.
func (f *Facts) lookNames(ctx context.Context, m *Machine, flag string) {
	switch {
	case flag != "":
		f.addName(flag, "--hostname")
	case f.Chatmail != nil:
		f.addName(f.Chatmail.Domain, "mail_domain of chatmail.ini")
	default:
		f.addCertificateNames(true) // which clients of the mail server already use
		if f.Postfix != nil {
			f.addName(f.Postfix.Hostname, "Postfix's myhostname")
		}
		host, _ := m.run(ctx, "hostname", "--fqdn")
		f.addName(host, "hostname --fqdn")
		f.addName(m.text("/etc/mailname"), "/etc/mailname")
		f.addCertificateNames(false)
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	var looking sync.WaitGroup
	for i := range f.Names {
		looking.Go(func() {
			name := &f.Names[i]
			addrs, err := m.Lookup(ctx, name.Host)
			if name.Addresses = addrs; err != nil {
				name.Err = err.Error()
			}
		})
	}
	looking.Wait()
}

// addName adds a candidate, unless it has no dot, is an address, or is a wildcard.
func (f *Facts) addName(host, source string) {
	host = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(host), "."))
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if !strings.Contains(host, ".") || strings.Contains(host, "*") || err == nil ||
		slices.ContainsFunc(f.Names, func(n Name) bool { return n.Host == host }) {
		return
	}
	f.Names = append(f.Names, Name{Host: host, Source: source})
}

// addCertificateNames adds the names in Dovecot's certificates, or those in the other certificates.
func (f *Facts) addCertificateNames(dovecots bool) {
	for _, c := range f.Certificates {
		if !c.SelfSigned && f.Dovecot.uses(c.Cert) == dovecots {
			for _, name := range c.Names {
				f.addName(name, "the certificate "+c.Cert)
			}
		}
	}
}

// public reports whether an address is globally reachable.
func public(addr netip.Addr) bool {
	_, special := peer.SpecialPurpose(addr)
	return !special
}

// publicOf returns the addresses that are globally reachable.
func publicOf(addrs []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(addr netip.Addr) bool { return !public(addr) })
}

// A Postfix describes the Postfix installed on this machine, which setup does not change.
type Postfix struct {
	Version, Hostname string
	SASL              string // smtpd_sasl_path: with Dovecot's socket, logins are not affected
}

func (m *Machine) lookPostfix(ctx context.Context) *Postfix {
	if !m.exists("/usr/sbin/postconf") {
		return nil
	}
	value := func(name string) string { text, _ := m.run(ctx, "postconf", "-h", name); return text }
	return &Postfix{Version: value("mail_version"), Hostname: value("myhostname"), SASL: value("smtpd_sasl_path")}
}
