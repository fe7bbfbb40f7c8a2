package turn

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"
)

// noteAddresses logs which relay addresses this machine has lost, and which it has again.
func (e *Endpoint) noteAddresses() {
	e.policyMu.Lock()
	defer e.policyMu.Unlock()
	for _, address := range e.addresses {
		err := e.tryBind(address.Bind)
		gone := errors.Is(err, syscall.EADDRNOTAVAIL)
		switch {
		case err != nil && !gone: // not an error of the address
		case gone && !e.missing[address.Advertise]:
			e.logger.Error("relay address is gone from this machine",
				"relay_ip", address.Advertise, "relay_bind", address.Bind)
			if e.missing == nil {
				e.missing = make(map[netip.Addr]bool)
			}
			e.missing[address.Advertise] = true
		case !gone && e.missing[address.Advertise]:
			e.logger.Info("relay address is back", "relay_ip", address.Advertise, "relay_bind", address.Bind)
			delete(e.missing, address.Advertise)
		}
	}
}

// Health returns an error that names the relay addresses that this machine no longer has.
func (e *Endpoint) Health() error {
	e.policyMu.Lock()
	defer e.policyMu.Unlock()
	if len(e.missing) == 0 {
		return nil
	}
	return fmt.Errorf("relay addresses that are gone from this machine: %v", slices.SortedFunc(maps.Keys(e.missing), netip.Addr.Compare))
}
