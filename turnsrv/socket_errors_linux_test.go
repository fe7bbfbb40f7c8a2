package turnsrv

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"golang.org/x/sys/unix"
)

// sending and receiving are the system calls of workers and of package net.
var (
	sending   = []uint32{unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG}
	receiving = []uint32{unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG}
)

// TestSocketErrors makes all system calls on the relayed address of one client fail. Its packets are dropped, and those of another
// client, which are in the same rounds, are not. The server does not spin.
func TestSocketErrors(t *testing.T) {
	for _, failure := range []struct {
		name  string
		calls []uint32
		errno unix.Errno
	}{
		{"no buffers", sending, unix.ENOBUFS},
		{"full buffer", sending, unix.EAGAIN},
		{"no memory", sending, unix.ENOMEM},
		{"firewall", sending, unix.EPERM},
		{"port unreachable", sending, unix.ECONNREFUSED},
		{"host unreachable", sending, unix.EHOSTUNREACH},
		{"network unreachable", sending, unix.ENETUNREACH},
		{"too long", sending, unix.EMSGSIZE},
		{"address gone", sending, unix.EADDRNOTAVAIL},
		{"receiving without memory", receiving, unix.ENOMEM},
		{"receiving an ICMP error", receiving, unix.ECONNREFUSED},
		{"receiving something unknown", receiving, unix.EOVERFLOW},
	} {
		if failure.errno == unix.EAGAIN && testWorkers(t) < 0 {
			continue // package net waits until the system says that there is room, which it does not here
		}
		inOwnProcess(t, failure.name, func(t *testing.T) {
			server := startServer(t, testConfig(t))
			unlucky := dial(t, "udp", server.udp)
			fd := uint32(descriptorOf(t, unlucky.allocate()))
			unlucky.want(unlucky.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(udp.AddrPortOf(echo(t)))), 0)
			lucky := startCalls(t, server, 1)[0]
			var refused []refusal
			for _, call := range failure.calls {
				refused = append(refused, refusal{call, arguments{0: fd}, failure.errno})
			}
			refuse(t, refused)
			lost, before := 0, cpuTime(t)
			for round := range 10 {
				for i := range 20 {
					unlucky.write(turntest.ChannelData(0x4000, "x"))
					lucky.write(turntest.ChannelData(0x4000, fmt.Sprint(round, i)))
					lost++
				}
				for i := range 20 {
					if _, data, err := stun.ParseChannelData(lucky.read()); err != nil || string(data) != fmt.Sprint(round, i) {
						t.Fatalf("packet %d of round %d is %q, %v", i, round, data, err)
					}
				}
			}
			<-time.After(500 * time.Millisecond) // for a server that spins
			if used := cpuTime(t) - before; used > 250*time.Millisecond {
				t.Errorf("the server and its clients computed for %v", used)
			}
			if got := server.Counters().Dropped[event.DropSend]; got != uint64(lost) && failure.calls[0] == sending[0] {
				t.Errorf("%d packets are counted as dropped, want %d", got, lost)
			}
			unlucky.want(unlucky.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
		})
	}
}

// TestPeersThatRefuse sends to peers on closed ports, for which the system gets ICMP errors, and to one on an open port in between.
func TestPeersThatRefuse(t *testing.T) {
	server := startServer(t, testConfig(t))
	c := dial(t, "udp", server.udp)
	c.skipICMP = true
	c.allocate()
	peers := []netip.AddrPort{udp.AddrPortOf(echo(t))}
	for range 4 {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, udp.AddrPortOf(conn.LocalAddr()))
		_ = conn.Close()
	}
	for i, peer := range peers {
		c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000+uint16(i)), turntest.PeerAddr(peer)), 0)
	}
	for round := range 20 {
		for i := range 20 {
			for n := len(peers) - 1; n >= 0; n-- {
				c.write(turntest.ChannelData(0x4000+uint16(n), fmt.Sprint(round, i)))
			}
		}
		for i := range 20 {
			if _, data, err := stun.ParseChannelData(c.read()); err != nil || string(data) != fmt.Sprint(round, i) {
				t.Fatalf("packet %d of round %d is %q, %v", i, round, data, err)
			}
		}
	}
}

// descriptorOf returns the descriptor of this process's UDP socket that is bound to an address.
func descriptorOf(t *testing.T, addr netip.AddrPort) int {
	t.Helper()
	for fd := range 1000 {
		name, err := unix.Getsockname(fd)
		if name, ok := name.(*unix.SockaddrInet4); err == nil && ok && netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port)) == addr {
			return fd
		}
	}
	t.Fatalf("no socket is bound to %v", addr)
	return -1
}

// cpuTime returns the CPU time that this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
