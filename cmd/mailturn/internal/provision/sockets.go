package provision

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Socket is one that listens, or for UDP one that is bound and not connected.
type Socket struct {
	Network string // tcp or udp
	Addr    netip.AddrPort
	PID     int    // 0 if it is not known
	Program string // its name in /proc; empty if it is not known
}

// sockets returns the listening sockets of the machine, as proc_net(5) has them.
func (m *Machine) sockets() (all []Socket) {
	inodes := make(map[string][]int) // of sockets, the indexes in all
	m.eachSocket(func(network, inode string, addr netip.AddrPort) {
		link := "socket:[" + inode + "]"
		inodes[link] = append(inodes[link], len(all))
		all = append(all, Socket{Network: network, Addr: addr})
	})
	m.eachDescriptor(func(d Descriptor, target string) {
		for _, i := range inodes[target] {
			// The first process has it from its start; others, such as the login processes of Dovecot, have inherited it.
			if all[i].PID == 0 || d.PID < all[i].PID {
				all[i].PID, all[i].Program = d.PID, m.program(d.PID)
			}
		}
	})
	return all
}

// holders returns the descriptors, of whatever process, that are sockets at the address of s.
func (m *Machine) holders(s Socket) (holders []Descriptor) {
	links := make(map[string]bool)
	m.eachSocket(func(network, inode string, addr netip.AddrPort) {
		if network == s.Network && addr == s.Addr {
			links["socket:["+inode+"]"] = true
		}
	})
	if len(links) == 0 {
		return nil
	}
	m.eachDescriptor(func(d Descriptor, target string) {
		if links[target] {
			holders = append(holders, d)
		}
	})
	return holders
}

// eachDescriptor calls f with each descriptor of each process, and what it is, as proc_pid_fd(5) says it.
func (m *Machine) eachDescriptor(f func(d Descriptor, target string)) {
	links, _ := filepath.Glob(m.path("/proc/[0-9]*/fd/*"))
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(link))))
		fd, _ := strconv.Atoi(filepath.Base(link))
		f(Descriptor{pid, fd}, target)
	}
}

// program returns the name of a process, empty if it has ended.
func (m *Machine) program(pid int) string {
	return strings.TrimSpace(m.procFile(fmt.Sprintf("/proc/%d/comm", pid)))
}

// eachSocket calls f with each socket that listens, and its inode.
func (m *Machine) eachSocket(f func(network, inode string, addr netip.AddrPort)) {
	for _, table := range []struct{ name, network, state string }{
		{"tcp", "tcp", "0A"}, {"tcp6", "tcp", "0A"}, // TCP_LISTEN
		{"udp", "udp", "07"}, {"udp6", "udp", "07"}, // TCP_CLOSE: not connected
	} {
		lines := bufio.NewScanner(strings.NewReader(m.procFile("/proc/net/" + table.name)))
		for lines.Scan() {
			// sl, local address, remote address, state, queues, timer, retransmissions, uid, timeout, inode
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != table.state {
				continue
			}
			if addr, ok := parseProcAddr(fields[1]); ok {
				f(table.network, fields[9], addr)
			}
		}
	}
}

// procFile reads a file whose size the system does not know beforehand.
func (m *Machine) procFile(name string) string {
	text, _ := os.ReadFile(m.path(name))
	return string(text)
}

// parseProcAddr parses ADDRESS:PORT in hexadecimal, the address in words of the processor's byte order, which is little-endian on
// the ones that mailturn is built for.
func parseProcAddr(text string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(host)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr, uint16(number)), ok
}

// onPort returns the sockets of a network on a port.
func onPort(sockets []Socket, network string, port uint16) (found []Socket) {
	for _, s := range sockets {
		if s.Network == network && s.Addr.Port() == port {
			found = append(found, s)
		}
	}
	return found
}

// holder says in a few words who has a socket.
func (s Socket) holder() string {
	if s.Program == "" {
		return "another program"
	}
	return s.Program + " (process " + strconv.Itoa(s.PID) + ")"
}
