package bench

import (
	"encoding/binary"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/mailturn/mailturn/turnsrv/credential"
)

// TestRelayIsMeasured has a server of pion's in this process relay a little of each kind of load.
func TestRelayIsMeasured(t *testing.T) {
	// A server is a process group, and that of go test has other processes, which end at any time.
	if err := syscall.Setpgid(0, 0); err != nil && syscall.Getpgrp() != os.Getpid() {
		t.Fatal(err)
	}
	pion, addr, err := servePion("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pion.Close() })
	issuer := credential.Issuer{Secret: credential.NewSecret([]byte(turnSecret)), TTL: time.Hour}
	b := turnBench{options: turnOptions{relay: 100 * time.Millisecond, workers: 2}, credential: issuer.Issue(time.Now())}
	running := &runningTurn{name: "pion", addr: addr, process: &server{group: syscall.Getpgrp()}}
	for _, w := range workloads {
		w.calls = 3
		if err := b.relay(t.Context(), w, running, false); err != nil {
			t.Errorf("%s: %v", w.name, err)
			continue
		}
		for _, c := range w.columns() {
			if figure, ok := b.table.figure(c.name, "pion"); !ok || figure <= 0 && c.ratio || figure < 0 {
				t.Errorf("%s is %v, %v", c.name, figure, ok)
			}
		}
	}
}

func TestGeneratorSeesWhatIsWrong(t *testing.T) {
	w := workload{size: 40, pps: 1, burst: 1, calls: 1}
	g, err := newGenerator(w)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	one := call{
		client: netip.MustParseAddr("127.1.0.1"), peer: netip.MustParseAddr("127.100.0.1"),
		server: netip.MustParseAddrPort("127.0.0.1:3478"), relayed: netip.MustParseAddrPort("127.0.0.1:50000"),
		channel: 0x4001, fill: [2][]byte{make([]byte, w.size), make([]byte, w.size)},
	}
	g.enter([]call{one})
	for _, tt := range []struct {
		name      string
		direction int
		change    func(p *packet, length *int)
		right     bool
	}{
		{"right, to the peer", toPeer, func(*packet, *int) {}, true},
		{"right, to the client", toClient, func(*packet, *int) {}, true},
		{"another time", toPeer, func(p *packet, _ *int) { p.data[7]++ }, true},
		{"nobody's address", toPeer, func(p *packet, _ *int) { p.control.info.Addr[3]++ }, false},
		{"from elsewhere", toPeer, func(p *packet, _ *int) { p.addr.Addr[3]++ }, false},
		{"from another port", toClient, func(p *packet, _ *int) { p.addr.Port++ }, false},
		{"on another channel", toClient, func(p *packet, _ *int) { p.data[1]++ }, false},
		{"no ChannelData", toClient, func(p *packet, _ *int) { p.data[2]++ }, false},
		{"changed", toPeer, func(p *packet, _ *int) { p.data[w.size-1]++ }, false},
		{"cut", toPeer, func(_ *packet, length *int) { *length-- }, false},
		{"longer", toPeer, func(_ *packet, length *int) { *length++ }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, length := new(packet), w.size
			from, to := one.relayed, one.peer
			if tt.direction == toClient {
				from, to = one.server, one.client
				binary.BigEndian.PutUint16(p.data[0:], uint16(one.channel))
				binary.BigEndian.PutUint16(p.data[2:], uint16(w.size))
				length += 4
			}
			p.addr.Addr, p.control.info.Addr = from.Addr().As4(), to.As4()
			binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&p.addr.Port))[:], from.Port())
			tt.change(p, &length)
			if _, _, err := g.check(tt.direction, p, length); (err == nil) != tt.right {
				t.Errorf("got %v", err)
			}
		})
	}
}
