package turn

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/mailturn/mailturn/endpoint/turn/publicip"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

const (
	// askPeriod is the time between two questions to sources elsewhere, which do not tell when the address changes.
	askPeriod = 5 * time.Minute
	// askPause is the time between two questions because addresses of this machine change.
	askPause = 10 * time.Second
)

// findAddresses returns the addresses of the relay at startup.
func (e *Endpoint) findAddresses(ctx context.Context) ([]relay.Address, error) {
	if e.finder = e.config.finder(); e.finder == nil {
		return relayAddresses(e.config, e.config.configured())
	}
	found, err := e.finder.Find(ctx, false)
	e.noteSources(err)
	if len(found) == 0 {
		return nil, errors.Join(errNoRelayAddress, err)
	}
	for _, f := range found {
		e.logger.Info("relay address found", "relay_ip", f.Addr, "source", f.Source.String())
	}
	return relayAddresses(e.config, e.config.forEngine(addrsOf(found)))
}

func addrsOf(found []publicip.Found) (addrs []netip.Addr) {
	for _, f := range found {
		addrs = append(addrs, f.Addr)
	}
	return addrs
}

// asksElsewhere reports whether there are sources that do not tell when they have another address.
func (e *Endpoint) asksElsewhere() bool {
	return e.finder != nil && slices.ContainsFunc(e.finder.Sources, func(s publicip.Source) bool { return !s.Local() })
}

// updateAddresses finds the addresses of the relay again, with local only on this machine, and uses them for new allocations. A family
// for which there is none any more keeps its address, which may come back.
func (e *Endpoint) updateAddresses(ctx context.Context, local bool) {
	if e.finder == nil {
		return
	}
	found, err := e.finder.Find(ctx, local)
	if ctx.Err() != nil {
		return
	}
	e.noteSources(err)
	e.policyMu.Lock()
	defer e.policyMu.Unlock()
	if e.config.Engine == Pion {
		return
	}
	next, changed := slices.Clone(e.addresses), false
	for _, f := range found {
		i := slices.IndexFunc(next, func(a relay.Address) bool { return a.Advertise.Is4() == f.Addr.Is4() })
		if i >= 0 && next[i].Advertise == f.Addr {
			continue
		}
		addresses, err := relayAddresses(e.config, []netip.Addr{f.Addr})
		if err != nil {
			e.logger.Warn("a new address of this machine cannot be used", "relay_ip", f.Addr, "source", f.Source.String(), "err", err)
			continue
		}
		changed = true
		if i < 0 {
			next = append(next, addresses[0])
			e.logger.Info("relay address added", "relay_ip", f.Addr, "relay_bind", addresses[0].Bind, "source", f.Source.String())
		} else {
			e.logger.Info("relay address changed", "relay_ip", f.Addr, "relay_bind", addresses[0].Bind, "source", f.Source.String(),
				"former", next[i].Advertise)
			delete(e.missing, next[i].Advertise)
			next[i] = addresses[0]
		}
		e.warnAddress(f.Addr)
	}
	if !changed {
		return
	}
	if err := e.allocator.SetAddresses(next); err != nil {
		e.logger.Error("cannot use the new addresses of this machine", "err", err)
		return
	}
	e.addresses = next
	e.addressChanges.Add(1)
}

// noteSources logs when sources begin to give no answer, and when all do again.
func (e *Endpoint) noteSources(err error) {
	switch {
	case err != nil && !e.sourcesFail:
		e.logger.Warn("not every source of relay_ip gives an answer", "err", err)
	case err == nil && e.sourcesFail:
		e.logger.Info("every source of relay_ip gives an answer again")
	}
	e.sourcesFail = err != nil
}
