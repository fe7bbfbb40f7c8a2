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
	uses := []descriptorUse{{c.Name, "total_quota", &c.TotalQuota, maxAllocations(c), 1}}
	if sockets := c.StreamSockets(); sockets > 0 {
		uses = append(uses, descriptorUse{c.Name, "max_connections", &c.MaxStreams, c.MaxStreams, sockets})
	}
	return uses
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
		uses = append(uses, descriptorUse{s.imaps[i].Name, "max_connections", &s.imaps[i].MaxConnections, s.imaps[i].MaxConnections, each})
	}
	for i := range s.dicts {
		each := 2
		if s.dicts[i].Next == "" {
			each = 1
		}
		uses = append(uses, descriptorUse{s.dicts[i].Name, "max_connections", &s.dicts[i].MaxConnections, s.dicts[i].MaxConnections, each})
	}
	for i := range s.http {
		uses = append(uses, descriptorUse{s.http[i].Name, "max_connections", &s.http[i].MaxConnections, s.http[i].MaxConnections, 1})
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

// fit lowers the limits of one process in proportion if necessary, and warns. Otherwise strangers who open idle connections would
// leave no descriptors for calls.
func fit(uses []descriptorUse, allowed int, logger *slog.Logger) {
	wanted := descriptorReserve
	for _, use := range uses {
		wanted += use.value * use.each
	}
	if wanted <= allowed {
		return
	}
	logger.Warn("the limit on open files is too low for the configured limits, which are lowered: raise LimitNOFILE of the unit, or ulimit -n",
		"limit", allowed, "wanted", wanted)
	share := max(0, float64(allowed-descriptorReserve)) / float64(wanted-descriptorReserve)
	for _, use := range uses {
		*use.limit = max(1, int(float64(use.value)*share))
		logger.Info("limit lowered", "endpoint", use.endpoint, "name", use.name, "from", use.value, "to", *use.limit)
	}
}
