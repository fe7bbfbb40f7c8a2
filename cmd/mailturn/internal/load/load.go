// Package load puts a measured load on a TURN server: in each pair of allocations, one sends numbered packets through the relay to
// the other, which sends them back. The load is bounded, and involves only the server.
package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Limits of a Config.
const (
	MaxAllocations = 2000
	MaxPPS         = 10000
	MinSize        = headerLen
	MaxSize        = 1400 // fits into one Ethernet packet with the headers of TURN, UDP and IPv6
	// MaxDuration is less than the lifetime of an allocation and of a channel, 10 minutes (RFC 8656 section 12), so that nothing
	// has to be refreshed during a measurement.
	MaxDuration = 9 * time.Minute
	// MaxTotalPPS limits the packets per second of all senders together.
	MaxTotalPPS = 500_000
)

const (
	// setupWorkers is how many allocations are made concurrently.
	setupWorkers = 16
	// setupPatience limits the time in which a pair is set up.
	setupPatience = 20 * time.Second
	// tail is how long to wait for packets after the last one was sent.
	tail = 2 * time.Second
	// headerLen is the length of the part of a packet that is not padding: the time of sending, in nanoseconds since the start.
	headerLen = 8
	// tick is how often a sender checks the clock, if its packets are not further apart.
	tick = time.Millisecond
)

// Config describes a load.
type Config struct {
	// Connect returns a connected client.
	Connect func(ctx context.Context) (*turnclient.Client, error)
	// Allocations is the number of allocations, which must be even: every other one sends.
	Allocations int
	PPS         int // packets per second from each sender
	Size        int // bytes of each packet, without any header
	Duration    time.Duration
	// Progress, if not nil, is called every second while packets are sent.
	Progress func(sent, received int64)
}

// Check returns an error that says which limit a load exceeds.
func (c Config) Check() error {
	switch {
	case c.Allocations < 2 || c.Allocations > MaxAllocations || c.Allocations%2 != 0:
		return fmt.Errorf("%d allocations: want an even number from 2 to %d", c.Allocations, MaxAllocations)
	case c.PPS < 1 || c.PPS > MaxPPS:
		return fmt.Errorf("%d packets a second: want 1 to %d", c.PPS, MaxPPS)
	case c.Size < MinSize || c.Size > MaxSize:
		return fmt.Errorf("packets of %d bytes: want %d to %d", c.Size, MinSize, MaxSize)
	case c.Duration < time.Second || c.Duration > MaxDuration:
		return fmt.Errorf("%v: want 1s to %v", c.Duration, MaxDuration)
	case c.Allocations/2*c.PPS > MaxTotalPPS:
		return fmt.Errorf("%d senders with %d packets a second each: want at most %d together", c.Allocations/2, c.PPS, MaxTotalPPS)
	}
	return nil
}

// Result is the result of a load.
type Result struct {
	Allocations int
	Setup       time.Duration // for all allocations and channels
	Elapsed     time.Duration // from the first packet to the last
	// Sent counts the packets sent, Received those that came back from the other end: each crosses the server's client side four
	// times. Duplicates made by the network count twice.
	Sent, Received int64
	SendErrors     int64
	Size           int
	RTT            Histogram
}

// Loss is the fraction of packets that did not come back, from 0 to 1.
func (r *Result) Loss() float64 {
	if r.Sent == 0 {
		return 0
	}
	return max(0, float64(r.Sent-r.Received)/float64(r.Sent))
}

// BitsPerSecond is the payload that came back, in bits per second.
func (r *Result) BitsPerSecond() float64 {
	return float64(r.Received) * float64(r.Size) * 8 / r.Elapsed.Seconds()
}

// pair is a sender and the client that sends back.
type pair struct {
	caller, called *turnclient.Client

	sent, received, errors atomic.Int64

	mu  sync.Mutex // guards rtt
	rtt Histogram
}

// Run puts the load on the server. It returns an error about the configuration or the setup, before anything is sent; after ctx is
// done, it returns the result so far.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	start := time.Now()
	pairs := make([]*pair, c.Allocations/2)
	defer func() {
		var ending sync.WaitGroup
		for _, p := range pairs {
			if p != nil {
				ending.Go(p.close)
			}
		}
		ending.Wait()
	}()
	if err := setUp(ctx, c, pairs, start); err != nil {
		return nil, err
	}
	result := &Result{Allocations: c.Allocations, Setup: time.Since(start), Size: c.Size}

	sending, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	begin := time.Now()
	var senders sync.WaitGroup
	for i, p := range pairs {
		offset := time.Duration(i) * time.Second / time.Duration(c.PPS*len(pairs)) // so that they do not send simultaneously
		senders.Go(func() { p.send(sending, c, start, offset) })
	}
	senders.Go(func() { c.watch(sending, pairs) })
	senders.Wait()
	result.Elapsed = time.Since(begin)
	wait(ctx, pairs)

	for _, p := range pairs {
		result.Sent += p.sent.Load()
		result.Received += p.received.Load()
		result.SendErrors += p.errors.Load()
		p.mu.Lock()
		result.RTT.Add(&p.rtt)
		p.mu.Unlock()
	}
	return result, nil
}

// setUp sets up the pairs.
func setUp(ctx context.Context, c Config, pairs []*pair, start time.Time) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(setupWorkers, len(pairs)) {
		workers.Go(func() {
			for i := range next {
				p, err := newPair(ctx, c, start)
				if err != nil {
					cancel(fmt.Errorf("pair %d of %d: %w", i+1, len(pairs), err))
					return
				}
				pairs[i] = p
			}
		})
	}
feeding:
	for i := range pairs {
		select {
		case next <- i:
		case <-ctx.Done():
			break feeding
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

func newPair(ctx context.Context, c Config, start time.Time) (*pair, error) {
	ctx, cancel := context.WithTimeout(ctx, setupPatience)
	defer cancel()
	p := &pair{}
	var err error
	if p.called, err = c.Connect(ctx); err == nil {
		p.caller, err = c.Connect(ctx)
	}
	if err == nil {
		err = p.bind(ctx)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	p.called.Handle(func(d turnclient.Data) {
		if d.Channel == stun.MinChannel && p.called.SendChannel(stun.MinChannel, d.Payload) != nil {
			p.errors.Add(1)
		}
	})
	p.caller.Handle(func(d turnclient.Data) {
		if d.Channel != stun.MinChannel || len(d.Payload) != c.Size {
			return
		}
		rtt := time.Since(start) - time.Duration(binary.BigEndian.Uint64(d.Payload))
		p.received.Add(1)
		p.mu.Lock()
		p.rtt.Record(rtt)
		p.mu.Unlock()
	})
	return p, nil
}

// bind allocates at both ends, and binds a channel at each to the other.
func (p *pair) bind(ctx context.Context) error {
	var relayed [2]turnclient.Allocation
	ends := []*turnclient.Client{p.caller, p.called}
	for i, end := range ends {
		_, err := end.Challenge(ctx)
		if err == nil {
			relayed[i], err = end.Allocate(ctx)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(
		p.caller.ChannelBind(ctx, stun.MinChannel, relayed[1].Relayed),
		p.called.ChannelBind(ctx, stun.MinChannel, relayed[0].Relayed))
}

func (p *pair) close() {
	ctx, cancel := context.WithTimeout(context.Background(), tail)
	defer cancel()
	for _, end := range []*turnclient.Client{p.caller, p.called} {
		if end != nil {
			_, _ = end.Refresh(ctx, 0)
			end.Close()
		}
	}
}

// send sends packets when they are due. It checks the clock every tick, and catches up if it is late.
func (p *pair) send(ctx context.Context, c Config, start time.Time, offset time.Duration) {
	interval := time.Second / time.Duration(c.PPS)
	begin := time.Now().Add(offset)
	ticker := time.NewTicker(max(tick, interval))
	defer ticker.Stop()
	payload := make([]byte, c.Size)
	for {
		due := int64(time.Since(begin)/interval) + 1
		for p.sent.Load() < due && ctx.Err() == nil {
			binary.BigEndian.PutUint64(payload, uint64(time.Since(start)))
			if p.caller.SendChannel(stun.MinChannel, payload) != nil {
				p.errors.Add(1)
			}
			p.sent.Add(1)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// watch reports progress until all packets are sent.
func (c Config) watch(ctx context.Context, pairs []*pair) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if c.Progress != nil {
				c.Progress(total(pairs))
			}
		}
	}
}

func total(pairs []*pair) (sent, received int64) {
	for _, p := range pairs {
		sent += p.sent.Load()
		received += p.received.Load()
	}
	return sent, received
}

// wait waits until all packets have come back, within limits.
func wait(ctx context.Context, pairs []*pair) {
	ctx, cancel := context.WithTimeout(ctx, tail)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for sent, received := total(pairs); received < sent; sent, received = total(pairs) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
