package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv"
)

type options struct {
	duration, pause, lifetime time.Duration
	clients                   int
	seed                      uint64
}

const (
	samples = 20 // in a soak

	// goodbye is the maximum time in which the server forgets clients after the lifetime of their allocations: 30 s for a
	// connection without one, and a reserve for a busy machine.
	goodbye = 90 * time.Second

	// heapSlack is how much the heap may grow beyond its size after the first quarter.
	heapSlack = 8 << 20
)

// soak makes clients come and go for a while, and writes a report. The error says what is wrong.
func soak(ctx context.Context, o options, out io.Writer) error {
	echo, err := startEcho()
	if err != nil {
		return err
	}
	defer echo.Close()
	before := take()
	server, err := startServer(o.lifetime)
	if err != nil {
		return err
	}
	serving := settled()
	dropped, err := udpDrops()
	if err != nil {
		return err
	}
	c := &crowd{server: server, echo: echo.LocalAddr().(*net.UDPAddr).AddrPort(), pause: o.pause, lifetime: o.lifetime}

	crowdCtx, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	var living sync.WaitGroup
	failures := make(chan error, o.clients)
	for i := range o.clients {
		living.Go(func() {
			// They start one after the other.
			random := rand.New(rand.NewPCG(o.seed, uint64(i)))
			select {
			case <-time.After(time.Duration(random.Int64N(int64(o.duration) / 10))):
			case <-crowdCtx.Done():
			}
			if err := c.live(crowdCtx, random); err != nil {
				failures <- err
				cancel()
			}
		})
	}
	heaps := c.watch(crowdCtx, o, out)
	living.Wait()
	close(failures)
	var errs []error
	for err := range failures {
		errs = append(errs, err)
	}

	// The server forgets those that left silently after a while.
	deadline := time.Now().Add(o.lifetime + goodbye)
	errs = append(errs, await(deadline, "allocations or connections", func() (int, int) {
		n := server.Counters()
		return n.Allocations + n.Streams, 0
	}))
	c.left.Wait()
	errs = append(errs, await(deadline, "goroutines", func() (int, int) { return take().goroutines, serving.goroutines + readers() }))
	errs = append(errs, await(deadline, "descriptors", func() (int, int) { return take().descriptors, serving.descriptors + readers() }))
	end := take()
	counted := server.Counters()
	errs = append(errs, server.stop())
	errs = append(errs, await(deadline, "goroutines of a server that is closed", func() (int, int) { return take().goroutines, before.goroutines }))
	errs = append(errs, await(deadline, "descriptors of a server that is closed", func() (int, int) { return take().descriptors, before.descriptors }))

	now, err := udpDrops()
	errs = append(errs, err)
	errs = append(errs, c.report(out, counted, now-dropped))
	fmt.Fprintf(out, "at the end, with the server running: %v\n", end)
	errs = append(errs, flat(heaps, end.heap, serving.heap))
	return errors.Join(errs...)
}

// watch prints the resources of the process until ctx is done, and returns the sizes of the heap.
func (c *crowd) watch(ctx context.Context, o options, out io.Writer) (heaps []uint64) {
	tick := time.NewTicker(o.duration / samples)
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-tick.C:
			h := take()
			heaps = append(heaps, h.heap)
			n := c.server.Counters()
			fmt.Fprintf(out, "%8s  %4d allocations, %4d connections, %v\n", time.Since(start).Round(time.Second), n.Allocations, n.Streams, h)
		case <-ctx.Done():
			return heaps
		}
	}
}

// report prints the totals, and fails if more messages were lost than the system has dropped.
func (c *crowd) report(out io.Writer, n turnsrv.Counters, systemDrops int) error {
	k := &c.counts
	fmt.Fprintf(out, "%d clients: %d ended with a Refresh, %d closed, %d left without a word\n",
		k.clients.Load(), k.ended.Load(), k.closed.Load(), k.vanished.Load())
	fmt.Fprintf(out, "%d channels bound, %d refreshed, %d messages sent, %d lost; the system dropped %d datagrams, and %d came from strangers\n",
		k.bound.Load(), k.refreshed.Load(), k.sent.Load(), k.lost.Load(), systemDrops, k.strange.Load())
	fmt.Fprintf(out, "the server made %d allocations, relayed %d packets to peers and %d to clients, and dropped", n.AllocationsMade, n.ToPeer.Packets, n.ToClient.Packets)
	none := true
	for reason, count := range n.Dropped {
		if count > 0 {
			none = false
			fmt.Fprintf(out, " %d (%v)", count, reason)
		}
	}
	if none {
		fmt.Fprint(out, " none")
	}
	fmt.Fprintln(out)
	if lost := int(k.lost.Load()); lost > systemDrops {
		return fmt.Errorf("%d messages were lost, of which the system dropped %d at most", lost, systemDrops)
	}
	if k.sent.Load() == 0 {
		return errors.New("no client has sent anything: the soak was too short")
	}
	return nil
}

// flat fails if the heap has grown after the first quarter, or has not returned to its size without clients.
func flat(heaps []uint64, end, before uint64) error {
	var errs []error
	if quarter := len(heaps) / 4; quarter > 0 {
		early, late := mean(heaps[quarter:2*quarter]), mean(heaps[len(heaps)-quarter:])
		if late > early+early/4+heapSlack {
			errs = append(errs, fmt.Errorf("the heap has grown from %d to %d KiB", early>>10, late>>10))
		}
	}
	if end > before+heapSlack {
		errs = append(errs, fmt.Errorf("without clients the heap has %d KiB, %d KiB before the first", end>>10, before>>10))
	}
	return errors.Join(errs...)
}

func mean(values []uint64) (sum uint64) {
	for _, v := range values {
		sum += v
	}
	return sum / uint64(len(values))
}

// await waits until there are as many as wanted.
func await(deadline time.Time, what string, count func() (got, want int)) error {
	for {
		got, want := count()
		if got <= want {
			return nil
		}
		if time.Now().After(deadline) {
			var stacks strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
			return fmt.Errorf("%d %s are there, want %d\n%s", got, what, want, &stacks)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
