// Package sysctl reads settings of the Linux kernel, such as net.core.rmem_max, and the state that it reports beside them. Other
// systems have none of them.
package sysctl

import (
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// System returns the settings of the kernel that this process runs on. Those of networks are those of its network namespace.
func System() fs.FS { return os.DirFS("/proc/sys") }

// read returns the fields of a setting; nil if the kernel does not have it, as when its module is not loaded, or as in a container.
func read(settings fs.FS, name string) []string {
	text, err := fs.ReadFile(settings, strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return nil
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(" \t\n,", r) })
}

// Int returns a setting that is one number. It reports false if there is no such setting.
func Int(settings fs.FS, name string) (int, bool) {
	fields := read(settings, name)
	if len(fields) != 1 {
		return 0, false
	}
	n, err := strconv.Atoi(fields[0])
	return n, err == nil
}

// ephemeralPorts and reservedPorts are the ports that the kernel picks for sockets that ask for none in particular, and those that
// it leaves out.
const (
	ephemeralPorts = "net.ipv4.ip_local_port_range"
	reservedPorts  = "net.ipv4.ip_local_reserved_ports"
)

// Ephemeral returns the first and the last of the ports from low to high that the kernel may pick for any other program. It reports
// false if there is none, or if that cannot be told.
func Ephemeral(settings fs.FS, low, high uint16) (first, last uint16, some bool) {
	picked := read(settings, ephemeralPorts)
	if len(picked) != 2 {
		return 0, 0, false
	}
	from, to, ok := ports(picked[0] + "-" + picked[1])
	if !ok {
		return 0, 0, false
	}
	var reserved [][2]uint16
	for _, text := range read(settings, reservedPorts) {
		if a, b, ok := ports(text); ok {
			reserved = append(reserved, [2]uint16{a, b})
		}
	}
	for port := int(max(low, from)); port <= int(min(high, to)); port++ {
		p := uint16(port)
		if slices.ContainsFunc(reserved, func(r [2]uint16) bool { return r[0] <= p && p <= r[1] }) {
			continue
		}
		if !some {
			first = p
		}
		last, some = p, true
	}
	return first, last, some
}

// ports parses PORT or PORT-PORT.
func ports(text string) (first, last uint16, ok bool) {
	low, high, found := strings.Cut(text, "-")
	if !found {
		high = low
	}
	a, errA := strconv.ParseUint(low, 10, 16)
	b, errB := strconv.ParseUint(high, 10, 16)
	return uint16(a), uint16(b), errA == nil && errB == nil && a <= b
}
