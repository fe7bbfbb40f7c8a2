package turn

import "net/netip"

// A network is where servers and the generator are. All addresses begin with the same byte.
type network struct {
	name  string
	first byte
	// run is the beginning of a command line that runs a server at its place in the network.
	run []string
	// servers and peers are the files of their network namespaces. They are empty on loopback. Clients are in that of this process.
	servers, peers string
}

var loopback = network{name: "on loopback", first: 127}

// maxServers is the number of servers for which a network has addresses.
const maxServers = 32

// server returns the address of a server, by its number. Each has its own, and therefore its own relay ports.
func (n network) server(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{n.first, 0, 0, 1 + byte(i)})
}

// client returns the address of a client, by its number. Consecutive ones are in different networks, because a server may limit the
// requests of one network.
func (n network) client(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{n.first, 128 + byte(i/50000), byte(i % 200), 1 + byte(i/200%250)})
}

// otherClient returns the address of a client that is where the peers are, by its number, as client does.
func (n network) otherClient(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{n.first, 192 + byte(i/50000), byte(i % 200), 1 + byte(i/200%250)})
}

// peer returns the address of a call's peer.
func (n network) peer(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{n.first, 250, byte(i / 250), 1 + byte(i%250)})
}

// all returns the prefix of all addresses of the network.
func (n network) all() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{n.first}), 8)
}
