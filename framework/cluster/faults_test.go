package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

// TestFaultsBetweenRedis has the network between one machine and Redis delay, cut and garble. The machine then knows no relays, so that
// it uses its file; nothing that asks it waits; and it is back after the fault. Another machine goes on.
func TestFaultsBetweenRedis(t *testing.T) {
	redisServer := redistest.Start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := redistest.NewProxy(t, listener, redisServer.Addr)
	well := join(t, settingsFor(t, modeStandalone, redisServer.Addr), "well", "1")
	one := join(t, settingsFor(t, modeStandalone, proxy.Addr()), "one", "2")
	both := func() string { return one.names() + ", " + well.names() }
	eventually(t, "relays", both, "one well, one well")
	random := rand.New(rand.NewPCG(1, 2))
	for _, fault := range []struct {
		name  string
		begin func()
	}{
		{"delayed for longer than the timeout", func() { proxy.Delay(2 * timeout) }},
		{"cut", proxy.Cut},
		{"random bytes", func() {
			proxy.Garble(func(b []byte) {
				for i := range b {
					b[i] = byte(random.Uint32())
				}
			})
		}},
		{"flipped bits", func() {
			proxy.Garble(func(b []byte) {
				for i := 0; i < len(b); i += 7 {
					b[i] ^= 1 << (i % 8)
				}
			})
		}},
		{"zeros", func() { proxy.Garble(func(b []byte) { clear(b) }) }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			failures := one.Status().Failures
			fault.begin()
			eventually(t, "relays during the fault", func() string {
				asked := time.Now()
				relays := both()
				_ = one.Status()
				one.Changed()
				if took := time.Since(asked); took > 100*time.Millisecond {
					t.Errorf("an answer took %v", took)
				}
				return relays
			}, ", well")
			eventually(t, "failures counted", func() string { return fmt.Sprint(one.Status().Failures > failures) }, "true") // after a timeout
			proxy.Mend()
			eventually(t, "relays afterwards", both, "one well, one well")
		})
	}
	for what, most := range map[string]int{"cannot be used": 5, "can be used again": 5} {
		if n := one.log.count(what); n == 0 || n > most {
			t.Errorf("%q was logged %d times in %d faults", what, n, most)
		}
	}
}

// TestSlowRedis has each answer take almost as long as one may. The machine stays in the cluster.
func TestSlowRedis(t *testing.T) {
	t.Parallel()
	redisServer := redistest.Start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := redistest.NewProxy(t, listener, redisServer.Addr)
	one := newMachine(settingsFor(t, modeStandalone, proxy.Addr()), "one", "1")
	one.lifetime = lifetime
	one.Start()
	t.Cleanup(one.Stop)
	eventually(t, "relays", one.names, "one")
	proxy.Delay(timeout / 5)
	for i := range 5 {
		one.set(func(r *Relay) { r.Allocations = i })
		eventually(t, "announcement", func() string {
			relays := one.Relays()
			return fmt.Sprint(len(relays) == 1 && relays[0].Allocations == i)
		}, "true")
	}
	if n := one.log.count("cannot be used"); n != 0 {
		t.Errorf("%d failures were logged", n)
	}
}
