package issuer

import (
	"net/netip"
	"slices"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// A Directory knows the relays of a cluster. *cluster.Directory implements it.
type Directory interface {
	// Relays returns the relays that are alive, none if they are unknown.
	Relays() []cluster.Relay
	// Region returns the region of a client. It may be invalid, for one whose address is unknown.
	Region(client netip.Addr) string
}

// forLive returns the Config of one of the relays of the cluster that are alive and accept a secret of this file, and false if there
// are none, or the process is in no cluster.
//
// Relays of the client's region come before others. An account always gets the same relay of those that come first, by the same choice as
// between relay blocks. One that drains, is full or cannot be reached is never among them.
func (c Config) forLive(account string, client netip.Addr) (Config, bool) {
	if c.Cluster == nil {
		return Config{}, false
	}
	var best cluster.Relay
	found, foundNear, highest := false, false, 0.0
	region := c.Cluster.Region(client)
	for _, r := range c.Cluster.Relays() {
		near := region != "" && r.Region == region
		if !r.Welcomes() || r.Own && c.drains() || foundNear && !near {
			continue
		}
		if _, ok := c.acceptedBy(r); !ok {
			continue
		}
		if s := score(liveIdentity(r), r.Weight, account); !found || near && !foundNear || s > highest {
			best, found, foundNear, highest = r, true, near, s
		}
	}
	if !found {
		return Config{}, false
	}
	return c.live(best)
}

// liveIdentity is the identity of the Config of a relay of the cluster, which takes longer to make.
func liveIdentity(r cluster.Relay) string {
	port := uint16(defaultPort)
	for _, ports := range [][]uint16{r.TCP, r.UDP} {
		if len(ports) > 0 {
			port = ports[0]
		}
	}
	return identity(r.Server, port)
}

// allLive returns the Config of each relay of the cluster that is alive and accepts a secret of this file.
func (c Config) allLive() (all []Config) {
	if c.Cluster == nil {
		return nil
	}
	for _, r := range c.Cluster.Relays() {
		if live, ok := c.live(r); ok {
			all = append(all, live)
		}
	}
	return all
}

// liveElsewhere returns the relays of the cluster on other machines that accept calls and a secret of this file. A secret of the ring is not
// enough: programs that issue credentials themselves use that of the file.
func (c Config) liveElsewhere() (all []WeightedRelay) {
	if c.Cluster == nil {
		return nil
	}
	for _, r := range c.Cluster.Relays() {
		if live, ok := c.live(r); ok && !r.Own && r.Welcomes() && c.sharesFile(r) {
			all = append(all, WeightedRelay{Config: live, Weight: r.Weight, Region: r.Region})
		}
	}
	return all
}

// live returns the Config for a relay of the cluster, and false if it accepts no secret of this file, or has no port that clients
// use.
func (c Config) live(r cluster.Relay) (Config, bool) {
	secret, ok := c.acceptedBy(r)
	if !ok {
		return Config{}, false
	}
	live := Config{
		Server: config.Value[string]{V: r.Server, Set: true}, Secrets: config.Value[[]credential.Secret]{V: []credential.Secret{secret}, Set: true},
		TTL: c.TTL, PreferTLS: c.PreferTLS, Accounts: c.Accounts, Names: c.Names,
	}
	relay := &Relay{Name: r.Name, UDPPorts: r.UDP, TCPPorts: r.TCP, TLSPorts: r.TLS}
	if live.linkRelay(relay).HasErrors() && c.PreferTLS.V { // it does not serve everything on one port
		live.PreferTLS.V, live.UDPPort, live.TCPPort, live.TLSPort.V = false, 0, 0, 0
		live.linkRelay(relay)
	}
	return live, len(live.Servers()) > 0
}

// sharesFile reports whether a relay accepts a secret of this file.
func (c Config) sharesFile(r cluster.Relay) bool {
	return slices.ContainsFunc(c.known, func(known credential.Identified) bool { return slices.Contains(r.Secrets, known.ID) })
}

// acceptedBy returns the first secret of the ring, or else of this file, that a relay accepts.
func (c Config) acceptedBy(r cluster.Relay) (credential.Secret, bool) {
	for _, secrets := range [...][]credential.Identified{c.Ring.Issuing(), c.known} {
		for _, known := range secrets {
			if slices.Contains(r.Secrets, known.ID) {
				return known.Secret, true
			}
		}
	}
	return credential.Secret{}, false
}

// Join makes the endpoint tell clients about the live relays of a cluster, and issue with the secrets of a ring, nil if there is none.
// Call it after Link and SetSecrets.
func (c *Config) Join(directory Directory, ring *credential.Ring) {
	c.Cluster, c.Ring, c.known = directory, ring, nil
	secrets := slices.Clone(c.Secrets.V)
	for _, r := range c.Relays {
		secrets = append(secrets, r.Secrets.V...)
	}
	for _, secret := range secrets {
		id := cluster.SecretID(secret.Bytes())
		if !slices.ContainsFunc(c.known, func(other credential.Identified) bool { return other.ID == id }) {
			c.known = append(c.known, credential.Identified{ID: id, Secret: secret})
		}
	}
}
