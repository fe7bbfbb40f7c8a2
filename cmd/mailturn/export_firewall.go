package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/mailturn/mailturn/framework/acme"
	"github.com/mailturn/mailturn/framework/listen"
)

// openPorts returns the ports that have to be reached from outside, by transport, without those on loopback: those of
// the endpoints, and that on which an authority checks names over HTTP (RFC 8555 section 8.3).
func (s *setup) openPorts() (udp, tcp []string) {
	numbers := map[string][]uint16{}
	add := func(transport string, a listen.Addr) {
		if !onLoopback(a) && !slices.Contains(numbers[transport], a.Port) {
			numbers[transport] = append(numbers[transport], a.Port)
		}
	}
	for _, relay := range s.relays {
		for _, a := range relay.Listen {
			if a.Scheme == "udp" || a.Scheme == "dtls" {
				add("udp", a)
			} else {
				add("tcp", a)
			}
		}
	}
	for _, server := range s.imaps {
		for _, a := range server.Listen {
			add("tcp", a)
		}
	}
	for _, server := range s.http {
		for _, a := range server.Listen {
			add("tcp", a)
		}
	}
	if s.acme != nil && s.acme.Challenge == acme.HTTP01 {
		host, port, _ := net.SplitHostPort(s.acme.Listen) // decoding has checked both
		number, _ := strconv.ParseUint(port, 10, 16)
		add("tcp", listen.Addr{Host: host, Port: uint16(number)})
	}
	text := func(ports []uint16) (list []string) {
		slices.Sort(ports)
		for _, port := range ports {
			list = append(list, strconv.Itoa(int(port)))
		}
		return list
	}
	udp, tcp = text(numbers["udp"]), text(numbers["tcp"])
	for _, relay := range s.relays {
		udp = append(udp, relay.RelayPorts.V.String())
	}
	return udp, tcp
}

// exportNftables writes rules that open the ports, and, for a relay, rules that keep its packets out of the table of tracked
// connections. Only UDP is left untracked: a TCP connection takes one entry, and its number is limited.
func exportNftables(w io.Writer, s *setup, userName string) error {
	udp, tcp := s.openPorts()
	owner, err := socketOwner(userName)
	if err != nil {
		return err
	}
	ports := strings.Join(udp, ", ")
	fmt.Fprint(w, "# Adds to the chains of Debian's /etc/nftables.conf. Your own rules that drop packets must come after these.\ntable inet filter {\n  chain input {\n")
	if len(udp) > 0 {
		fmt.Fprintf(w, "    udp dport { %s } accept\n", ports)
	}
	if len(tcp) > 0 {
		fmt.Fprintf(w, "    tcp dport { %s } accept\n", strings.Join(tcp, ", "))
	}
	if len(udp) == 0 {
		fmt.Fprint(w, "  }\n}\n")
		return nil
	}
	fmt.Fprintf(w, `    # ICMP errors are not "related" to packets that are not tracked; the MTU of a path is found by them.
    icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
  }
  chain output {
    udp sport { %[1]s } accept
  }
}

# Packets of calls take no entries in the table of tracked connections. When that table is full, the kernel drops calls and mail alike.
table inet mailturn
delete table inet mailturn
table inet mailturn {
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    # "socket" limits this to what this machine receives itself; what it forwards may need NAT, which needs tracking.
    udp dport { %[1]s } socket transparent 0 notrack
  }
  chain output {
    type filter hook output priority raw; policy accept;
    %[2]sudp sport { %[1]s } notrack
  }
}
`, ports, owner)
	return nil
}

// socketOwner returns the expression of nftables for packets from sockets of the user that mailturn runs as, with a space after it.
// It is empty where that user is not known.
func socketOwner(name string) (string, error) {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil { // of a container, for one: it need not exist here
		return "meta skuid " + name + " ", nil
	}
	explicit := name != ""
	if !explicit {
		name = loadUnit(context.Background()).user
	}
	if _, err := user.Lookup(name); err != nil {
		if explicit {
			return "", err
		}
		return "", nil
	}
	return fmt.Sprintf("meta skuid %q ", name), nil
}

func exportUFW(w io.Writer, s *setup) error {
	udp, tcp := s.openPorts()
	for _, rule := range []struct {
		ports     []string
		transport string
	}{{tcp, "tcp"}, {udp, "udp"}} {
		for _, port := range rule.ports {
			fmt.Fprintf(w, "ufw allow %s/%s comment mailturn\n", strings.Replace(port, "-", ":", 1), rule.transport)
		}
	}
	return nil
}
