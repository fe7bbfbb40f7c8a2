package udp

import (
	"net"
	"net/netip"
	"testing"
)

func TestT35PacketsCostNoAllocation(t *testing.T) {
	bound := wildcards[0]
	bound.bind, bound.addresses = "127.0.0.1:0", bound.addresses[:1]
	for _, wildcard := range append(wildcards, bound) {
		conn, err := net.ListenPacket(wildcard.network, wildcard.bind)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		socket, err := NewPacketSocket(conn)
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range wildcard.addresses {
			to := netip.AddrPortFrom(netip.MustParseAddr(address), AddrPortOf(conn.LocalAddr()).Port())
			client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			buf := make([]byte, 100)
			allocs := testing.AllocsPerRun(50, func() {
				if _, err := client.Write(buf[:10]); err != nil {
					t.Fatal(err)
				}
				_, from, local, err := socket.ReadPacket(buf)
				if want := wildcard.bind != bound.bind; err != nil || local.IsValid() != want || want && local != to.Addr() {
					t.Fatalf("to %v: local address %v, %v", to, local, err)
				}
				if err := socket.WritePacket(buf[:20], from, local); err != nil {
					t.Fatal(err)
				}
				if n, err := client.Read(buf); err != nil || n != 20 {
					t.Fatalf("%d bytes, %v", n, err)
				}
			})
			if allocs != 0 {
				t.Errorf("%s at %s: %v allocations for a packet and its answer, want none", address, wildcard.network, allocs)
			}
		}
	}
}

// wildcards are sockets bound to all addresses, and addresses at which clients can reach them.
var wildcards = []struct {
	network, bind string
	addresses     []string
}{
	{"udp4", "0.0.0.0:0", []string{"127.0.0.1", "127.0.0.2"}},
	{"udp6", "[::]:0", []string{"::1"}},
	{"udp", ":0", []string{"127.0.0.1", "127.0.0.2", "127.7.7.7", "::1"}},
}
