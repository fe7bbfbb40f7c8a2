package probe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// notTested adds to the list of what was not tested.
func (r *Report) notTested(what string) {
	if what = printable(what); !slices.Contains(r.Verdict.NotTested, what) {
		r.Verdict.NotTested = append(r.Verdict.NotTested, what)
	}
}

// judgeUntested adds the relayed addresses to which no transport sent packets from outside, and what Quick omits.
func (r *run) judgeUntested(attempts []*attempt) {
	relayed := func(a *attempt) netip.Addr {
		addr, _ := netip.ParseAddrPort(a.RelayedAddr)
		return addr.Addr()
	}
	known := make(map[netip.Addr]bool)
	for _, a := range attempts {
		if a.Direct != nil {
			known[relayed(a)] = true
		}
	}
	for _, a := range attempts {
		if !a.allocated() || known[relayed(a)] {
			continue
		}
		known[relayed(a)] = true // one reason is enough
		if relayed(a).IsLoopback() {
			r.report.notTested(fmt.Sprintf("callers on other machines, who cannot reach %v", relayed(a)))
			continue
		}
		r.report.notTested(fmt.Sprintf("whether the relay's ports at %v are open to the outside (%s)", relayed(a), a.directSkipped))
		r.report.insideOnly = true
	}
	if r.Depth == Quick {
		var left []string
		for _, t := range r.transports[1:] {
			left = append(left, strings.ToUpper(string(t)))
		}
		if r.tlsPort != 0 {
			left = append(left, "TLS")
		}
		r.report.notTested(strings.Join(append(left, "what a relay must refuse"), ", ") + " (--quick)")
	}
}
