package provision

import (
	"context"
	"strconv"
	"strings"
)

// A Firewall filters incoming packets.
type Firewall struct {
	Name  string // ufw, firewalld or nftables
	Rules string // a listing of its rules; for ufw, the commands that added them
}

// lookFirewall returns nil if no firewall of this machine filters packets. It checks the front ends first, because their rules are
// in nftables too.
func (m *Machine) lookFirewall(ctx context.Context) *Firewall {
	if text, err := m.run(ctx, "ufw", "status"); err == nil && strings.Contains(text, "Status: active") {
		added, _ := m.run(ctx, "ufw", "show", "added")
		return &Firewall{"ufw", added}
	}
	if text, err := m.run(ctx, "firewall-cmd", "--state"); err == nil && text == "running" {
		rules, _ := m.run(ctx, "firewall-cmd", "--list-ports")
		return &Firewall{"firewalld", rules}
	}
	text, err := m.run(ctx, "nft", "list", "ruleset")
	if err == nil && strings.Contains(text, "hook input") && (strings.Contains(text, "drop") || strings.Contains(text, "reject")) {
		return &Firewall{"nftables", text}
	}
	return nil
}

// Conntrack describes the kernel's table of tracked connections, which calls may fill.
type Conntrack struct{ Count, Max int }

// lookConntrack returns nil if nothing is tracked.
func (m *Machine) lookConntrack() *Conntrack {
	number := func(name string) int {
		n, _ := strconv.Atoi(strings.TrimSpace(m.procFile("/proc/sys/net/netfilter/" + name)))
		return n
	}
	c := &Conntrack{Count: number("nf_conntrack_count"), Max: number("nf_conntrack_max")}
	if c.Max == 0 {
		return nil
	}
	return c
}
