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

// A Socket is a listening TCP socket, or a UDP socket that is not connected.
type Socket struct {
	Network string // tcp or udp
	Addr    netip.AddrPort
	PID     int    // 0 if unknown
	Program string // name of the process in /proc; empty if unknown
}

// sockets returns the listening sockets of the machine, as in proc_net(5).
func (m *Machine) sockets() (all []Socket) {
	inodes := make(map[string][]int) // of sockets, the indexes in all
	m.eachSocket(func(network, inode string, addr netip.AddrPort) {
		link := "socket:[" + inode + "]"
		inodes[link] = append(inodes[link], len(all))
		all = append(all, Socket{Network: network, Addr: addr})
	})
	m.eachDescriptor(func(d Descriptor, target string) {
		for _, i := range inodes[target] {
			// The process with the lowest PID opened the socket; others, such as Dovecot's login processes, have inherited it.
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

// eachDescriptor calls f with each descriptor of each process and the target of its link, proc_pid_fd(5).
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

// program returns the name of a process, or "" if it has ended.
func (m *Machine) program(pid int) string {
	return strings.TrimSpace(m.procFile(fmt.Sprintf("/proc/%d/comm", pid)))
}

// eachSocket calls f with each listening socket and its inode.
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

// procFile reads a file in /proc, whose size is not known in advance.
func (m *Machine) procFile(name string) string {
	text, _ := os.ReadFile(m.path(name))
	return string(text)
}

// parseProcAddr parses ADDRESS:PORT in hexadecimal. The address consists of words in the processor's byte order, which is
// little-endian on all processors that mailturn is built for.
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

// holder describes the program that has the socket.
func (s Socket) holder() string {
	if s.Program == "" {
		return "another program"
	}
	return s.Program + " (process " + strconv.Itoa(s.PID) + ")"
}
