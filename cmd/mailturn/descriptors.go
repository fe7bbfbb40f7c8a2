package main

import (
	"log/slog"

	"github.com/mailturn/mailturn/endpoint/turn"
)

// descriptorReserve is the number of descriptors that the limits of the configuration do not bound: listeners, the log, files that
// are read, and those of the runtime.
const descriptorReserve = 64

// descriptorUse is a limit of the configuration and how many descriptors it allows.
type descriptorUse struct {
	endpoint, name string
	limit          *int // in the configuration, where zero may stand for something else
	value          int  // what it comes to
	each           int  // descriptors that one takes
	calls          bool // it bounds allocations, which only users have; else connections, which strangers may open
}

// maxAllocations returns how many allocations a relay may have.
func maxAllocations(c *turn.Config) int {
	if c.TotalQuota > 0 {
		return c.TotalQuota
	}
	return 2 * (int(c.RelayPorts.V.Max) - int(c.RelayPorts.V.Min) + 1) // one at each port, of both families
}

// relayDescriptors returns what bounds how many descriptors a relay has open.
func relayDescriptors(c *turn.Config) []descriptorUse {
	uses := []descriptorUse{{endpoint: c.Name, name: "total_quota", limit: &c.TotalQuota, value: maxAllocations(c), each: 1, calls: true}}
	if sockets := c.StreamSockets(); sockets > 0 {
		uses = append(uses, connectionUse(c.Name, &c.MaxStreams, sockets))
	}
	return uses
}

// connectionUse returns the use of the max_connections of an endpoint, each of which takes some descriptors.
func connectionUse(endpoint string, limit *int, each int) descriptorUse {
	return descriptorUse{endpoint: endpoint, name: "max_connections", limit: limit, value: *limit, each: each}
}

// descriptorUses returns what in the configuration bounds how many descriptors this process has open.
func (s *setup) descriptorUses() []descriptorUse {
	var uses []descriptorUse
	for i := range s.relays {
		if s.relays[i].Engine != turn.Pion {
			uses = append(uses, relayDescriptors(&s.relays[i])...)
		}
	}
	for i := range s.imaps {
		each := 2 // one to the client, one to the IMAP server
		if s.imaps[i].Upstream == nil {
			each = 1
		}
		uses = append(uses, connectionUse(s.imaps[i].Name, &s.imaps[i].MaxConnections, each))
	}
	for i := range s.dicts {
		each := 2
		if s.dicts[i].Next == "" {
			each = 1
		}
		uses = append(uses, connectionUse(s.dicts[i].Name, &s.dicts[i].MaxConnections, each))
	}
	for i := range s.http {
		uses = append(uses, connectionUse(s.http[i].Name, &s.http[i].MaxConnections, 1))
	}
	for i := range s.ports {
		if s.ports[i].Fallback != "" { // one to the client, one to the fallback
			uses = append(uses, connectionUse(s.ports[i].Listen.String(), &s.ports[i].MaxConnections, 2))
		}
	}
	return uses
}

// fitDescriptors lowers the limits of the configuration so that this process, and each one that it starts for a relay, needs no more
// descriptors than a process may open.
func (s *setup) fitDescriptors(allowed int, logger *slog.Logger) {
	fit(s.descriptorUses(), allowed, logger)
	for i := range s.relays {
		if s.relays[i].Engine == turn.Pion {
			fit(relayDescriptors(&s.relays[i]), allowed, logger)
		}
	}
}

// fit lowers the limits of one process if necessary, and warns. Otherwise strangers who open idle connections would leave no descriptors
// for calls. Connections are rarely as many as their limits allow, so calls keep theirs while these need no more than half of the
// descriptors. Limits of the same kind are lowered in proportion.
func fit(uses []descriptorUse, allowed int, logger *slog.Logger) {
	calls, connections := 0, 0
	for _, use := range uses {
		if use.calls {
			calls += use.value * use.each
		} else {
			connections += use.value * use.each
		}
	}
	available := max(0, allowed-descriptorReserve)
	if calls+connections <= available {
		return
	}
	logger.Warn("the limit on open files is too low for the configured limits, which are lowered: raise LimitNOFILE of the unit, or ulimit -n",
		"limit", allowed, "wanted", calls+connections+descriptorReserve)
	forCalls := min(calls, max(available/2, available-connections))
	for _, use := range uses {
		of, share := connections, available-forCalls
		if use.calls {
			of, share = calls, forCalls
		}
		if of <= share {
			continue
		}
		*use.limit = max(1, int(float64(use.value)*float64(share)/float64(of)))
		logger.Info("limit lowered", "endpoint", use.endpoint, "name", use.name, "from", use.value, "to", *use.limit)
	}
}
