package main

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/sysctl"
)

// entriesPerAllocation is how many tracked connections an allocation takes at least while a call begins: that of its client, and those
// of the peer addresses that answer.
const entriesPerAllocation = 4

// checkKernel warns in one line about settings of the kernel that are too small for the relays that other machines reach.
func (s *setup) checkKernel(settings fs.FS, logger *slog.Logger) {
	if small := s.smallSettings(settings); len(small) > 0 {
		logger.Warn("kernel settings are too small for many calls: see docs/operating.md", "settings", strings.Join(small, "; "))
	}
}

// smallSettings returns the settings that checkKernel warns about. It ignores settings that the kernel lacks or does not show.
func (s *setup) smallSettings(settings fs.FS) (small []string) {
	var ports []string
	allocations := 0
	for i := range s.relays {
		if relay := &s.relays[i]; reachesOthers(relay) {
			allocations += maxAllocations(relay)
			if first, last, some := sysctl.Ephemeral(settings, relay.RelayPorts.V.Min, relay.RelayPorts.V.Max); some {
				ports = append(ports, fmt.Sprintf("net.ipv4.ip_local_reserved_ports lacks %d-%d of relay_ports", first, last))
			}
		}
	}
	if allocations == 0 {
		return nil
	}
	want := func(name string, value int, otherwise string) {
		if got, ok := sysctl.Int(settings, name); ok && got < value {
			small = append(small, fmt.Sprintf("%s is %d, want %d%s", name, got, value, otherwise))
		}
	}
	want("net.core.rmem_max", turn.ReceiveBuffer, "")
	want("net.core.wmem_max", turn.SendBuffer, "")
	if _, tracks := sysctl.ReadConntrack(settings); tracks { // 0 would be no limit
		want(sysctl.ConntrackMax, entriesPerAllocation*allocations, " or the rules of mailturn export nftables")
	}
	return append(small, ports...)
}

// reachesOthers reports whether a relay listens on an address that other machines may reach.
func reachesOthers(c *turn.Config) bool {
	return slices.ContainsFunc(c.Listen, func(a listen.Addr) bool { return !onLoopback(a) })
}

// onLoopback reports whether only this machine reaches the address.
func onLoopback(a listen.Addr) bool {
	ip, err := netip.ParseAddr(a.Host)
	return err == nil && ip.IsLoopback() || a.Host == "localhost"
}
