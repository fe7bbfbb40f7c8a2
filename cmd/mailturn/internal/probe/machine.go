package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mailturn/mailturn/framework/sysctl"
)

const (
	conntrackID  = "machine.conntrack"
	kernelPathID = "machine.kernel_path"
)

// KernelPath says whether the kernel relays calls for a TURN endpoint of the server on this machine.
type KernelPath struct {
	Endpoint string `json:"endpoint"`
	Used     bool   `json:"used"`
	// Problem is why not, if the configuration asks for it.
	Problem string `json:"problem,omitempty"`
}

// judgeMachine looks at this machine, if it is that of a server that was probed: elsewhere, it says nothing about the server.
func (r *run) judgeMachine(ctx context.Context) {
	if !r.onServer() {
		return
	}
	r.judgeConntrack()
	if r.KernelPaths == nil {
		return
	}
	for _, p := range r.KernelPaths(ctx) {
		switch {
		case p.Used:
			r.report.add(kernelPathID, p.Endpoint, OK, "The kernel relays calls.", "")
		case p.Problem != "":
			r.report.add(kernelPathID, p.Endpoint, Note, "Sockets relay all calls, because the kernel path is not available: "+p.Problem+".", "")
		default:
			continue
		}
		r.report.KernelPath = append(r.report.KernelPath, p)
	}
}

// judgeConntrack looks at the kernel's table of tracked connections.
func (r *run) judgeConntrack() {
	table, tracks := sysctl.ReadConntrack(r.Kernel)
	if !tracks {
		return
	}
	r.report.Conntrack = &table
	use := fmt.Sprintf("%d of at most %d connections", table.Entries, table.Limit)
	const action = "Load the rules of \"mailturn export nftables\", which keep packets of calls out of that table, or raise " + sysctl.ConntrackMax + "."
	allocated := slices.ContainsFunc(r.report.Relays, func(relay Relay) bool { return relay.RelayedAddr != "" })
	switch {
	case table.Full() && !allocated:
		r.report.add(conntrackID, "", Failure, "this machine's kernel tracks "+use+": the table is full, so it drops packets of new calls and connections.", action)
	case table.NearlyFull():
		r.report.add(conntrackID, "", Warning, "this machine's kernel tracks "+use+": when the table is full, it drops packets of new calls and connections.", action)
	default:
		r.report.add(conntrackID, "", OK, "This machine's kernel tracks "+use+".", "")
	}
}

// onServer reports whether a server that was probed is this machine: whether one of its addresses is.
func (r *run) onServer() bool {
	local, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, name := range r.report.Names {
		for _, address := range slices.Concat(name.IPv4.Addresses, name.IPv6.Addresses) {
			addr, err := netip.ParseAddr(address.Address)
			if err == nil && (addr.IsLoopback() || slices.ContainsFunc(local, func(a net.Addr) bool { return isAddr(a, addr.Unmap()) })) {
				return true
			}
		}
	}
	return false
}
