package turn

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

var errNoRelayAddress = errors.New("cannot determine relay_ip: this machine has no route to the internet; set relay_ip")

// relayAddresses pairs each address that peers see with the one that sockets are bound to.
func relayAddresses(c Config, advertised []netip.Addr) ([]relay.Address, error) {
	local, err := peer.LocalAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var addresses []relay.Address
	for _, address := range advertised {
		bind := bindFor(address, c.RelayBind, local)
		if err := tryBind(bind); err != nil {
			at := listen.Addr{Scheme: "udp", Host: bind.String()}
			return nil, fmt.Errorf("relay_bind for relay_ip %v: %w", address, listen.Error(at, c.Range, err))
		}
		addresses = append(addresses, relay.Address{Bind: bind, Advertise: address})
	}
	return addresses, nil
}

// configured returns the addresses that peers see if the configuration has them: relay_ip, else those that the endpoint listens on.
func (c *Config) configured() []netip.Addr {
	if len(c.RelayIP) > 0 {
		return c.forEngine(c.RelayIP)
	}
	return c.forEngine(listenedOn(*c))
}

// forEngine returns the addresses that the engine uses: pion one, IPv4 if possible.
func (c *Config) forEngine(addresses []netip.Addr) []netip.Addr {
	if c.Engine == Pion && len(addresses) > 1 {
		first := max(0, slices.IndexFunc(addresses, netip.Addr.Is4))
		return addresses[first : first+1]
	}
	return addresses
}

// tryBind returns why relay sockets cannot be bound to addr. Otherwise every client would get an error, and the operator none.
func tryBind(addr netip.Addr) error {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return err
	}
	return conn.Close()
}

// bindFor returns the configured address of the same family, else the advertised one if it is this machine's, as it is
// without a NAT, else the unspecified one.
func bindFor(advertised netip.Addr, configured, local []netip.Addr) netip.Addr {
	for _, bind := range configured {
		if bind.Is4() == advertised.Is4() {
			return bind
		}
	}
	switch {
	case slices.Contains(local, advertised):
		return advertised
	case advertised.Is4():
		return netip.IPv4Unspecified()
	default:
		return netip.IPv6Unspecified()
	}
}

// listenedOn returns the address of each family that the endpoint listens on, if it listens on one and not on all.
func listenedOn(c Config) []netip.Addr {
	var v4, v6 netip.Addr
	for _, l := range c.Listen {
		address, err := netip.ParseAddr(l.Host)
		if err != nil || address.IsUnspecified() {
			return nil
		}
		switch {
		case address.Is4() && !v4.IsValid():
			v4 = address
		case address.Is6() && !v6.IsValid():
			v6 = address
		}
	}
	return slices.DeleteFunc([]netip.Addr{v4, v6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// routed returns the addresses from which this machine would send to the internet. Connecting a UDP socket sends nothing;
// the destinations are those of the documentation (RFC 5737, RFC 3849), which every default route leads to.
func routed() []netip.Addr {
	var found []netip.Addr
	for _, destination := range []string{"203.0.113.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", destination)
		if err != nil {
			continue
		}
		if address := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(); !address.IsLinkLocalUnicast() {
			found = append(found, address.WithZone(""))
		}
		conn.Close()
	}
	return found
}
