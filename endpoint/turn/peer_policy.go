package turn

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// addressPeriod is the time between two checks of this machine's addresses on systems that do not announce changes, and after a
// failed check.
const addressPeriod = 10 * time.Second

// localWatch announces changes, as peer.LocalWatch does.
type localWatch interface {
	Next() error
	Close() error
}

// peerPolicy returns the policy for peers.
func (e *Endpoint) peerPolicy(c Config, addresses []relay.Address) (*peer.Policy, error) {
	local, err := e.localPrefixes()
	if err != nil {
		return nil, err
	}
	rules := peer.Rules{Allow: c.Peers.Allow.V, Deny: c.Peers.Deny, Local: local, NAT64: e.nat64}
	for _, address := range addresses {
		rules.Own = append(rules.Own, address.Advertise)
	}
	return peer.New(rules), nil
}

// followAddresses also refuses addresses that this machine did not have at the start: late ones from router advertisements or DHCP,
// or one that moves here from another machine. Packets to them come from this machine, so its firewall accepts them. watch is nil
// on systems that do not announce changes.
func (e *Endpoint) followAddresses(ctx context.Context, watch localWatch) {
	changed := make(chan struct{})
	if watch != nil {
		var watching sync.WaitGroup
		watching.Go(func() {
			defer close(changed)
			for watch.Next() == nil {
				select {
				case changed <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
		})
		defer watching.Wait()
		defer watch.Close()
	}
	var ask <-chan time.Time
	var asked time.Time
	if e.asksElsewhere() {
		ask, asked = time.After(askPeriod), time.Now()
	}
	followsNAT64 := false
	for again := time.After(0); ; { // something may have changed since the start
		local := true
		select {
		case _, told := <-changed:
			if !told {
				changed, watch = nil, nil
			} else if ask != nil {
				ask = time.After(askPause - time.Since(asked))
			}
		case <-ask:
			ask, asked, local = time.After(askPeriod), time.Now(), false
		case <-again:
		case <-ctx.Done():
			return
		}
		again = nil
		e.updateAddresses(ctx, local)
		if !followsNAT64 && e.allocator.Has(stun.IPv6) {
			followsNAT64 = true
			e.serving.Go(func() { e.followNAT64(ctx) })
		}
		e.noteAddresses()
		err := e.updatePolicy()
		if err != nil {
			e.logger.Warn("cannot see whether this machine has new addresses", "err", err)
		}
		if err != nil || watch == nil {
			again = time.After(addressPeriod)
		}
	}
}

// updatePolicy replaces the policy if there is another one for the current addresses of this machine. Router advertisements announce
// the same addresses every few seconds.
func (e *Endpoint) updatePolicy() error {
	changed, err := e.replacePolicy()
	if changed {
		e.withdrawFromKernel()
	}
	return err
}

func (e *Endpoint) replacePolicy() (changed bool, err error) {
	e.policyMu.Lock()
	defer e.policyMu.Unlock()
	policy, err := e.peerPolicy(e.config, e.addresses)
	if err != nil || reflect.DeepEqual(policy, e.policy) {
		return false, err
	}
	e.allocator.SetPeers(policy)
	e.policy = policy
	return true, nil
}
