package turn

import (
	"context"
	"time"

	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// addressPeriod is how often the endpoint looks which addresses this machine has.
const addressPeriod = 10 * time.Second

// peerPolicy says which peers may be reached.
func (e *Endpoint) peerPolicy(c Config, addresses []relay.Address) (*peer.Policy, error) {
	local, err := e.localPrefixes()
	if err != nil {
		return nil, err
	}
	rules := peer.Rules{Allow: c.PeersAllow, Deny: c.PeersDeny, Local: local}
	for _, address := range addresses {
		rules.Own = append(rules.Own, address.Advertise)
	}
	return peer.New(rules), nil
}

// followAddresses keeps the addresses of this machine out of reach that it did not have at the start: one that router
// advertisements or DHCP bring late, or one that moves here from another machine. Packets to them come from this machine, which
// its firewall lets pass.
func (e *Endpoint) followAddresses(ctx context.Context) {
	ticker := time.NewTicker(addressPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := e.updatePolicy(); err != nil {
				e.logger.Warn("cannot see whether this machine has new addresses", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// updatePolicy makes the policy anew, with the addresses that the machine has now.
func (e *Endpoint) updatePolicy() error {
	e.policyMu.Lock()
	defer e.policyMu.Unlock()
	policy, err := e.peerPolicy(e.config, e.addresses)
	if err != nil {
		return err
	}
	e.allocator.SetPeers(policy)
	return nil
}
