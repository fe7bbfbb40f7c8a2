package resolver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// The configuration files of a Unix system.
const (
	resolvConf = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
)

// maxHosts bounds /etc/hosts in bytes: some hold block lists.
const maxHosts = 16 << 20

// System returns a resolver that is configured as the machine's own: /etc/hosts, then the servers of /etc/resolv.conf, because
// Delta Chat core asks the system. Of the options of resolv.conf, only timeout and attempts are used; search domains and
// nsswitch.conf are not.
func System() (*Resolver, error) { return fromFiles(resolvConf, hostsFile) }

// fromFiles is System with other files. A missing file counts as empty; without servers, the one on loopback is asked, as
// resolv.conf(5) says.
func fromFiles(resolv, hosts string) (*Resolver, error) {
	r := &Resolver{}
	configuration, err := dns.ClientConfigFromFile(resolv)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read the DNS configuration: %w", err)
	default:
		for _, server := range configuration.Servers {
			addr, err := netip.ParseAddr(server)
			if err != nil {
				return nil, fmt.Errorf("%s: name server %q is not an address", resolv, server)
			}
			r.Servers = append(r.Servers, netip.AddrPortFrom(addr, 53))
		}
		r.Timeout, r.Attempts = time.Duration(configuration.Timeout)*time.Second, configuration.Attempts
	}
	if len(r.Servers) == 0 {
		r.Servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	}
	file, err := os.Open(hosts)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case err != nil:
		return nil, fmt.Errorf("read the hosts file: %w", err)
	}
	defer file.Close()
	if r.Hosts, err = parseHosts(io.LimitReader(file, maxHosts)); err != nil {
		return nil, fmt.Errorf("read %s: %w", hosts, err)
	}
	return r, nil
}

// At returns a resolver that asks only one server, not even /etc/hosts. server is an address with a port, or without one for port
// 53.
func At(server string) (*Resolver, error) {
	if addr, err := netip.ParseAddr(strings.Trim(server, "[]")); err == nil {
		return &Resolver{Servers: []netip.AddrPort{netip.AddrPortFrom(addr, 53)}}, nil
	}
	addrPort, err := netip.ParseAddrPort(server)
	if err != nil {
		return nil, fmt.Errorf("DNS server %q is neither ADDRESS nor ADDRESS:PORT", server)
	}
	return &Resolver{Servers: []netip.AddrPort{addrPort}}, nil
}

// parseHosts reads hosts(5): an address, names, and # before a comment. It skips lines that do not have that form, as the
// system does, and names that cannot be in a domain.
func parseHosts(r io.Reader) (map[string][]netip.Addr, error) {
	hosts := make(map[string][]netip.Addr)
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		line, _, _ := strings.Cut(scanner.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, name := range fields[1:] {
			if _, ok := dns.IsDomainName(name); !ok { // "a.." would be found under another name than it is looked up by
				continue
			}
			name = canonical(name)
			hosts[name] = append(hosts[name], addr.Unmap())
		}
	}
	return hosts, scanner.Err()
}
