package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/mailturn/mailturn/endpoint/imap"
	"github.com/mailturn/mailturn/endpoint/imap/upstream"
)

// A dovecotSyntax is the syntax of a version of Dovecot, where versions differ.
type dovecotSyntax struct {
	listen    string // the address of an inet_listener
	attribute string // the dictionary of METADATA; its verb is the path of a socket
}

var errDovecotVersion = errors.New("cannot tell which version of Dovecot this is for: add --dovecot-version 2.3 or --dovecot-version 2.4")

// dovecotSyntaxOf returns the syntax of a version such as 2.4 or 2.4.1-4.
func dovecotSyntaxOf(version string) (dovecotSyntax, error) {
	fields := strings.FieldsFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if len(fields) < 2 || fields[0] != "2" {
		return dovecotSyntax{}, fmt.Errorf("unknown version %q of Dovecot: want 2.3 or 2.4", version)
	}
	switch fields[1] {
	case "3":
		return dovecotSyntax{"address", "mail_attribute_dict = proxy:%s:metadata"}, nil
	case "4":
		return dovecotSyntax{"listen", "mail_attribute {\n  dict proxy {\n    name = metadata\n    socket_path = %s\n  }\n}"}, nil
	default:
		return dovecotSyntax{}, fmt.Errorf("unknown version %q of Dovecot: want 2.3 or 2.4", version)
	}
}

// installedDovecot asks the Dovecot of this machine for its version.
func installedDovecot() (string, error) {
	for _, program := range []string{"dovecot", "/usr/sbin/dovecot", "/usr/local/sbin/dovecot"} { // sbin is not in everybody's PATH
		if output, err := exec.Command(program, "--version").Output(); err == nil {
			return strings.TrimSpace(string(output)), nil
		}
	}
	return "", errDovecotVersion
}

// exportDovecot writes the settings for Dovecot on the machine of mailturn: as the upstream of an endpoint "imap", and to ask an
// endpoint "dict". An empty version means that of the installed one.
func exportDovecot(w io.Writer, s *setup, version string) error {
	behind, errBehind := dovecotBehind(s)
	if errBehind != nil && len(s.dicts) == 0 {
		return errBehind
	}
	if version == "" {
		var err error
		if version, err = installedDovecot(); err != nil {
			return err
		}
	}
	syntax, err := dovecotSyntaxOf(version)
	if err != nil {
		return err
	}
	if errBehind == nil {
		behind.write(w, syntax)
	}
	if len(s.dicts) > 0 {
		fmt.Fprintf(w, syntax.attribute+"\nprotocol imap {\n  imap_metadata = yes\n}\n", s.dicts[0].Socket.Path)
	}
	return nil
}

// A dovecotListener is where an endpoint "imap" reaches a Dovecot on this machine.
type dovecotListener struct {
	host          netip.Addr
	port          string
	tls           bool // from the first byte
	clientAddress upstream.ClientAddress
}

// dovecotBehind returns the listener that the first endpoint "imap" with an upstream connects to.
func dovecotBehind(s *setup) (l dovecotListener, err error) {
	i := slices.IndexFunc(s.imaps, func(c imap.Config) bool { return c.Upstream != nil })
	if i < 0 {
		return l, errors.New(`this configuration has neither an endpoint "dict", which Dovecot would ask, nor an endpoint "imap" with an upstream, which would be Dovecot: add one`)
	}
	upstream := s.imaps[i].Upstream
	address := upstream.Addresses[0]
	host, port, _ := net.SplitHostPort(address.Address)
	if host == "localhost" {
		host = "127.0.0.1"
	}
	l = dovecotListener{port: port, tls: address.Scheme == "tls", clientAddress: upstream.ClientAddress}
	if l.host, err = netip.ParseAddr(host); err != nil || !l.host.IsLoopback() {
		return l, fmt.Errorf("the upstream is %s: the lines are for a Dovecot on this machine that listens on loopback", address)
	}
	return l, nil
}

// write writes the settings that make Dovecot listen there, and accept the client addresses that mailturn reports.
func (l dovecotListener) write(w io.Writer, syntax dovecotSyntax) {
	used, unused, settings := "imap", "imaps", ""
	if l.tls {
		used, unused, settings = "imaps", "imap", "    ssl = yes\n"
	}
	switch l.clientAddress {
	case upstream.ClientAddressID:
		fmt.Fprintf(w, "login_trusted_networks = %s\n", l.host)
	case upstream.ClientAddressProxy, upstream.ClientAddressProxy2:
		fmt.Fprintf(w, "haproxy_trusted_networks = %s\n", l.host)
		settings += "    haproxy = yes\n"
	}
	fmt.Fprintf(w, "service imap-login {\n  inet_listener %s {\n    %s = %s\n    port = %s\n%s  }\n  inet_listener %s {\n    port = 0\n  }\n}\n",
		used, syntax.listen, l.host, l.port, settings, unused)
}
