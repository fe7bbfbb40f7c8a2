//go:build amd64 || arm64

package turnsrv

import (
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// echoInPeer makes the peer of a call send everything back until the test ends.
func (c *kernelCall) echoInPeer(t *testing.T) {
	t.Helper()
	var echoing sync.WaitGroup
	echoing.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.peer.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = c.peer.WriteToUDPAddrPort(b[:n], from)
		}
	})
	t.Cleanup(func() {
		_ = c.peer.Close()
		echoing.Wait()
	})
}

// TestKernelPathHandOver hands a server over many times while the kernel relays its calls. No packet is lost, and the kernel relays the
// calls for the next server, too. What the kernel has relayed remains counted.
func TestKernelPathHandOver(t *testing.T) {
	n := inNetwork(t)
	if n == nil {
		return
	}
	config := func() Config {
		c := testConfig(t)
		c.KernelPath, c.Workers = KernelPathOn, 2
		var addresses []relay.Address
		for _, f := range networkFamilies {
			addresses = append(addresses, relay.Address{Bind: f.relay, Advertise: f.relay})
		}
		c.Relay = turntest.TestRelay(t, relay.Config{Addresses: addresses, Peers: lab()})
		return c
	}
	s := newSuccessionAt(t, "[::]:3478", 2, config())
	k := &kernelServer{Server: s.current, network: n}
	const calls = 4
	var streams []*stream
	var all []*kernelCall
	for _, f := range networkFamilies {
		for i := range uint16(calls / 2) {
			c := k.call(t, f, 0x4000+i)
			c.echoInPeer(t)
			all = append(all, c)
			streams = append(streams, &stream{client: c.client, channel: c.number})
		}
	}
	inKernel := func() {
		t.Helper()
		for start := time.Now(); s.current.Counters().Kernel.Channels < calls; time.Sleep(time.Millisecond) {
			if time.Since(start) > patience() {
				t.Fatalf("the kernel does not relay: %+v", s.current.Counters().Kernel)
			}
		}
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, one := range streams {
		running.Go(func() { one.run(stop) })
	}
	var slowest time.Duration
	for range 10 {
		inKernel()
		slowest = max(slowest, s.handOver(config()))
	}
	inKernel()
	close(stop)
	running.Wait()
	var longest time.Duration
	total, swapped := 0, 0
	for i, one := range streams {
		if one.missing > 0 || one.sent == 0 {
			t.Errorf("call %d: %d of %d packets came back", i, one.back, one.sent)
		}
		longest = max(longest, one.longest)
		total += one.sent + 1
		swapped += one.swapped
	}
	k.Server = s.current
	kernel := k.relayedByKernel(all[0])
	t.Logf("%d packets each way, of which the kernel relayed %d both ways together, %d out of order; longest time without service %v, longest gap %v",
		total, kernel, swapped, slowest, longest)
	if got := s.current.Counters().ToPeer.Packets; got != uint64(total) {
		t.Errorf("%d packets to peers are counted, want %d", got, total)
	}
	if kernel < uint64(total)/2 {
		t.Errorf("the kernel has relayed %d packets, want most of %d", kernel, 2*total)
	}
}
