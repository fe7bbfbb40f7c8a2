package main

import (
	"context"
	"os"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv"
)

// kernelPathSystem is what the machine says about the kernel path.
type kernelPathSystem struct {
	root bool
	try  func() error         // returns why the kernel cannot relay
	nat  func() (bool, error) // whether netfilter has rules of NAT
	unit func(context.Context) unit
}

func systemKernelPath() kernelPathSystem {
	return kernelPathSystem{os.Geteuid() == 0, turnsrv.TryKernelPath, turnsrv.KernelPathNAT, loadUnit}
}

// checkKernelPath warns about relays with kernel_path = "on" on a machine where that is impossible, or less useful than it seems.
// With "auto", mailturn only logs this when it starts. Only root can try.
func (x *examination) checkKernelPath(ctx context.Context) (diags hcl.Diagnostics) {
	if !x.kernel.root {
		return nil
	}
	for i := range x.setup.relays {
		relay := &x.setup.relays[i]
		if relay.KernelPath != turn.KernelPath(turnsrv.KernelPathOn) {
			continue
		}
		if err := x.kernel.try(); err != nil {
			diags = append(diags, config.WithHint(config.Warnf(relay.Range, "Kernel path is not possible", "kernel_path is \"on\", but the kernel of this machine cannot relay calls: %v.", err),
				"use \"auto\", with which sockets relay where the kernel cannot"))
		}
		if u := x.kernel.unit(ctx); u.loaded && u.user != "root" && u.user != "" && !(strings.Contains(u.capabilities, "cap_bpf") && strings.Contains(u.capabilities, "cap_net_admin")) {
			diags = append(diags, config.WithHint(config.Warnf(relay.Range, "Kernel path lacks capabilities",
				"kernel_path is \"on\", but %s does not grant both CAP_BPF and CAP_NET_ADMIN: mailturn will not start.", unitName),
				"install the drop-in kernel-path.conf: see docs/kernel-path.md"))
		}
		if nat, err := x.kernel.nat(); err == nil && nat {
			diags = append(diags, config.Warnf(relay.Range, "Netfilter has rules of NAT",
				"kernel_path is \"on\": sockets relay the calls whose packets these rules rewrite. The metric mailturn_turn_kernel_passed_up_packets_total counts them as \"unproven\"."))
		}
	}
	return diags
}
