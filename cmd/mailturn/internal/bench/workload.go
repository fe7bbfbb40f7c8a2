package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/load"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// A workload is what a server has to relay: calls of a client and a peer who both send, in ChannelData over UDP.
type workload struct {
	name  string
	calls int
	// Each party sends bursts of packets, so many packets a second in all. Zero is as fast as the server relays: a party
	// sends when what it has sent before has come.
	pps, burst int
	size       int // bytes of payload in a packet
	oneCPU     bool
}

var workloads = []workload{
	{name: "voice", calls: 100, pps: 50, burst: 1, size: 160},
	{name: "video", calls: 20, pps: 300, burst: 10, size: 1100},
	{name: "full", calls: 200, size: 200, oneCPU: true},
}

func workloadNames() (names []string) {
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

// columns are the figures of a workload.
func (w workload) columns() []column {
	columns := []column{{name: w.name + " CPU us/packet", format: "%.2f", ratio: true, spread: true}}
	if w.pps == 0 {
		columns = append(columns, column{name: w.name + " packets/s", format: "%.0f", ratio: true, spread: true})
	} else {
		columns = append(columns, column{name: w.name + " p50 us", format: "%.0f"}, column{name: w.name + " p99 us", format: "%.0f"})
	}
	return append(columns, column{name: w.name + " lost %", format: "%.3f"})
}

// relayed is what a generator has seen of a workload.
type relayed struct {
	sent, received uint64
	late           load.Histogram // how long packets took
}

// call is one allocation with a channel to one peer. The addresses are of loopback, each party's its own.
type call struct {
	client, peer netip.Addr
	server       netip.AddrPort
	relayed      netip.AddrPort
	channel      stun.ChannelNumber
	// fill is the payload towards the peer and towards the client, of which the first bytes are the time of sending.
	fill [2][]byte
}

// timeLen is the length of the time of sending, in nanoseconds since the generator began.
const timeLen = 8

// measureRelay has every server relay the workloads.
func (b *turnBench) measureRelay(ctx context.Context, kinds []turnServer) error {
	wanted := strings.Split(b.options.workloads, ",")
	for _, w := range workloads {
		if !slices.Contains(wanted, w.name) {
			continue
		}
		b.table.columns = append(b.table.columns, w.columns()...)
		if err := b.measureWorkload(ctx, w, kinds); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

func (b *turnBench) measureWorkload(ctx context.Context, w workload, kinds []turnServer) error {
	if w.oneCPU {
		first, last, err := cpus()
		if err != nil {
			return err
		}
		leave, err := stayOn(last)
		if err != nil {
			return err
		}
		defer leave()
		kinds = slices.Clone(kinds)
		for i := range kinds {
			kinds[i].cpu = &first
		}
	}
	return b.inTurn(ctx, w.name, kinds, func(s *runningTurn, discard bool) error { return b.relay(ctx, w, s, discard) })
}

// relay measures one workload on one server once.
func (b *turnBench) relay(ctx context.Context, w workload, s *runningTurn, discard bool) error {
	g, err := newGenerator(w)
	if err != nil {
		return err
	}
	defer g.close()
	calls, err := b.call(ctx, w, s.addr, g)
	if err != nil {
		return err
	}
	g.enter(calls)
	var result relayed
	begin := time.Now()
	used, err := cpu(s.process, func() (err error) {
		result, err = g.run(ctx, b.options.relay)
		return err
	})
	took := time.Since(begin)
	if err != nil || discard {
		return err
	}
	if result.received == 0 {
		return errors.New("nothing came")
	}
	figures := map[string]float64{
		"CPU us/packet": used.Seconds() * 1e6 / float64(result.received),
		"packets/s":     float64(result.received) / took.Seconds(),
		"p50 us":        float64(result.late.Percentile(50).Nanoseconds()) / 1000,
		"p99 us":        float64(result.late.Percentile(99).Nanoseconds()) / 1000,
		"lost %":        100 * (1 - float64(result.received)/float64(result.sent)),
	}
	for _, c := range w.columns() {
		b.table.add(c.name, s.name, figures[strings.TrimPrefix(c.name, w.name+" ")])
	}
	return nil
}

// call makes the allocations and channels of a workload, with clients and peers at the ports of g.
func (b *turnBench) call(ctx context.Context, w workload, server netip.AddrPort, g *generator) ([]call, error) {
	calls := make([]call, w.calls)
	clients := make([]*turnclient.Client, 0, w.calls)
	defer func() { closeAll(clients) }() // the generator gets what comes from now on
	// The port is that of the generator's socket too, which has no address of its own.
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error { return raw.Control(reuseAddr) }}
	for i := range calls {
		local := b.nextClient()
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, g.clientPort()))
		conn, err := dialer.DialContext(ctx, "udp4", server.String())
		if err != nil {
			return nil, err
		}
		clients = append(clients, b.client(conn))
		calls[i] = call{
			client: local, server: server, peer: netip.AddrFrom4([4]byte{127, 100, byte(i / 250), byte(1 + i%250)}),
			channel: stun.MinChannel + stun.ChannelNumber(i),
		}
		for j := range calls[i].fill {
			calls[i].fill[j] = make([]byte, w.size)
			_, _ = rand.Read(calls[i].fill[j]) // never fails
		}
	}
	return calls, b.each(ctx, clients, func(ctx context.Context, c *turnclient.Client) error {
		one := &calls[slices.Index(clients, c)]
		if _, err := c.Challenge(ctx); err != nil {
			return err
		}
		allocation, err := c.Allocate(ctx)
		if err != nil {
			return err
		}
		one.relayed = allocation.Relayed
		return c.ChannelBind(ctx, one.channel, netip.AddrPortFrom(one.peer, g.peerPort()))
	})
}

// inTurn starts servers and has them measured in turn.
func (b *turnBench) inTurn(ctx context.Context, what string, kinds []turnServer, measure func(s *runningTurn, discard bool) error) (err error) {
	var running []*runningTurn
	defer func() {
		for _, s := range running {
			err = errors.Join(err, s.stop())
		}
	}()
	for _, k := range kinds {
		s, err := k.start(ctx, b.dir)
		if err != nil {
			return err
		}
		running = append(running, s)
	}
	for i := range b.options.runs + 1 {
		fmt.Fprintf(os.Stderr, "\r%s, run %d of %d ", what, i, b.options.runs)
		for j := range running {
			s := running[(i+j)%len(running)]
			if err := measure(s, i == 0); err != nil { // the first run warms up
				return fmt.Errorf("%s: %w\n%s", s.name, err, s.log())
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	return nil
}
