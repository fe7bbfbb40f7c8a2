//go:build amd64 || arm64

package kernel

import (
	"context"
	"log/slog"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestFollow checks that channels stop when their packets have to leave another way, and that other changes leave them alone.
func TestFollow(t *testing.T) {
	for name, test := range map[string]struct {
		commands string // for ip(8)
		keeps    bool
	}{
		"a route elsewhere":            {"route add 203.0.113.0/24 via 198.18.2.2; route add 2001:db8:5::/48 via fd18:2::2", true},
		"an address of another family": {"addr add 198.18.2.77/24 dev veth2; addr del 198.18.2.77/24 dev veth2", true},
		"a better route to the peer":   {"route add 198.18.2.2/32 via 198.18.1.2; route add fd18:2::2/128 via fd18:1::2", false},
		"a smaller MTU":                {"link set veth2 mtu 1400", false},
		"the relay's address":          {"addr del 198.18.2.1/24 dev veth2; addr del fd18:2::1/64 dev veth2", false},
		"the server's address":         {"addr add 198.18.1.9/24 dev veth1; addr add fd18:1::9/64 dev veth1 nodad; addr del 198.18.1.1/24 dev veth1; addr del fd18:1::1/64 dev veth1", false},
		"a rule":                       {"rule add to 198.18.1.2 blackhole; -6 rule add to fd18:1::2 blackhole", false},
		"the interface":                {"link delete veth1", false},
	} {
		t.Run(name, func(t *testing.T) {
			n := turntest.NewNetwork(t)
			n.In(t, n.Server, func() { checkFollows(t, n, strings.Split(test.commands, "; "), test.keeps) })
		})
	}
}

func checkFollows(t *testing.T, n *turntest.Network, commands []string, keeps bool) {
	p := loadForTest(t, 8)
	now := time.Now()
	var channels []*Channel
	for _, a := range [][]netip.AddrPort{
		ports("198.18.1.2:5000", "198.18.1.1:3478", "198.18.2.1:50000", "198.18.2.2:6000"),
		ports("[fd18:1::2]:5000", "[fd18:1::1]:3478", "[fd18:2::1]:50000", "[fd18:2::2]:6000"),
	} {
		// IPv6 addresses come into use a moment after their interface.
		for start := time.Now(); !isLocal(a[1].Addr()) || !isLocal(a[2].Addr()); time.Sleep(10 * time.Millisecond) {
			if time.Since(start) > 10*time.Second {
				t.Errorf("the host has no address %v or %v", a[1], a[2])
				return
			}
		}
		c, err := p.Relay(Binding{Client: a[0], Server: a[1], Number: number, Relay: a[2], Peer: a[3], Until: now.Add(time.Minute)}, now)
		if err != nil {
			t.Error(err)
			return
		}
		channels = append(channels, c)
	}
	for _, command := range commands {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Errorf("ip %s: %v\n%s", command, err, out)
			return
		}
	}
	if err := p.changes.next(); err != nil { // the kernel tells of changes
		t.Error(err)
	}
	p.recheck()
	for i, c := range channels {
		if c.Disabled() == keeps {
			t.Errorf("channel %d is disabled: %v, want %v", i, c.Disabled(), !keeps)
		}
		c.End(now)
	}
	if len(p.channels) != 0 {
		t.Errorf("%d channels remain", len(p.channels))
	}
	if want := map[bool]int{true: 2, false: 1}[commands[0] != "link delete veth1"]; len(p.hooks) != want {
		t.Errorf("attached to %d interfaces, want %d", len(p.hooks), want)
	}
}

// TestRecheckBeats checks that a recheck reports to the program for each channel.
func TestRecheckBeats(t *testing.T) {
	p := loadForTest(t, 1)
	p.control.Alive = 0
	p.recheckChannels([]*Channel{{}})
	if p.alive() == 0 {
		t.Error("the program considers the process dead during a long recheck")
	}
}

// TestFollowBeats checks that Follow reports to the program while it runs, and ends when it is told to.
func TestFollowBeats(t *testing.T) {
	p := loadForTest(t, 1)
	p.control.Alive = 0
	stop := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() { p.Follow(stop) })
	for start := time.Now(); p.alive() == 0; {
		if time.Since(start) > 10*time.Second {
			t.Fatal("no report")
		}
		time.Sleep(10 * time.Millisecond)
	}
	close(stop)
	following.Wait()
}

// TestDisableAfterEnd checks that a late check of a channel that has ended leaves the one alone that has its entries now.
func TestDisableAfterEnd(t *testing.T) {
	now := time.Now()
	b := bindings(now)["IPv4"]
	p := loadForTest(t, 1)
	first, err := p.Add(b, now)
	if err != nil {
		t.Fatal(err)
	}
	first.End(now)
	second, err := p.Add(b, now.Add(restFor))
	if err != nil {
		t.Fatal(err)
	}
	p.disable(first)
	if second.Disabled() {
		t.Error("another channel was disabled")
	}
	p.disable(second)
	if !second.Disabled() {
		t.Error("the channel is in use")
	}
}

// TestRelayDuringChange checks that a channel that is added while routes change is not missed.
func TestRelayDuringChange(t *testing.T) {
	n := turntest.NewNetwork(t)
	n.In(t, n.Server, func() {
		p := loadForTest(t, 4)
		now := time.Now()
		a := ports("198.18.1.2:5000", "198.18.1.1:3478", "198.18.2.1:50000", "198.18.2.2:6000")
		b := Binding{Client: a[0], Server: a[1], Number: number, Relay: a[2], Peer: a[3], Until: now.Add(time.Minute)}
		before := p.routes.generation()
		c, err := p.Relay(b, now)
		if err != nil || c.Disabled() {
			t.Errorf("no channel (%v)", err)
			return
		}
		c.End(now)
		if len(p.routes.known) != 2 || p.routes.generation() != before {
			t.Errorf("%d routes are known", len(p.routes.known))
		}
		p.recheck()
		if len(p.routes.known) != 0 || p.routes.generation() == before {
			t.Errorf("%d routes are known after a change", len(p.routes.known))
		}
		// Routes change while the program is attached to the client's interface, for which the route is known by then.
		if err := p.Detach(n.ToClient); err != nil {
			t.Error(err)
		}
		change := func() {
			if out, err := exec.Command("ip", "link", "set", "veth1", "mtu", "1400").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			p.recheck()
		}
		p.logger = slog.New(onLog(change))
		if c, err = p.Relay(b, now.Add(restFor)); err != nil || !c.Disabled() {
			t.Errorf("the channel is in use, with a route from before the change (%v)", err)
		}
		c.End(now)
		if err := p.Detach(n.ToClient); err != nil {
			t.Error(err)
		}
		p.logger = slog.New(onLog(p.recheck)) // for a change of something else
		if c, err = p.Relay(b, now.Add(2*restFor)); err != nil || c.Disabled() {
			t.Errorf("the channel is not in use, although its routes are the same (%v)", err)
		}
	})
}

// onLog is a handler of logs that calls itself.
type onLog func()

func (onLog) Enabled(context.Context, slog.Level) bool    { return true }
func (f onLog) Handle(context.Context, slog.Record) error { f(); return nil }
func (f onLog) WithAttrs([]slog.Attr) slog.Handler        { return f }
func (f onLog) WithGroup(string) slog.Handler             { return f }
