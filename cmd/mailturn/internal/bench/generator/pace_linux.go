package generator

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// pace sends at the rate of the load, each party at different times.
func (g *Generator) pace(ctx context.Context, d time.Duration) (err error) {
	type turn struct {
		at              time.Duration
		call, direction int
	}
	period := time.Duration(g.load.Burst) * time.Second / time.Duration(g.load.PPS)
	var turns []turn
	for direction := range g.flows {
		for call := range g.flows[direction] {
			turns = append(turns, turn{rand.N(period), call, direction})
		}
	}
	slices.SortFunc(turns, func(a, b turn) int { return cmp.Compare(a.at, b.at) })

	var done atomic.Bool
	var receivers sync.WaitGroup
	for direction := range g.sides {
		receivers.Go(func() {
			for g.heard[direction].err == nil && (g.receive(direction, true, nil) || !done.Load()) {
			}
		})
	}
	defer receivers.Wait()
	defer done.Store(true)
	leave, err := punctual()
	if err != nil {
		return err
	}
	defer leave()
	for start := time.Duration(0); start < d && ctx.Err() == nil; start += period {
		for _, t := range turns {
			if wait := start + t.at - time.Since(g.begin); wait > 0 {
				pause := unix.NsecToTimespec(wait.Nanoseconds())
				_ = unix.Nanosleep(&pause, nil) // a signal may end it early, which does no harm
			}
			for range g.load.Burst {
				g.queue(t.call, t.direction)
			}
			if err := g.flush(t.direction); err != nil {
				return err
			}
		}
	}
	g.took = time.Since(g.begin) // before the last ones arrive
	return ctx.Err()
}

// punctual makes sleeps of the calling goroutine end on time, until leave is called.
func punctual() (leave func(), err error) {
	runtime.LockOSThread()
	leave = func() {
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
		runtime.UnlockOSThread()
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// saturate makes each party send a packet when one of its packets under way has arrived, or is lost.
func (g *Generator) saturate(ctx context.Context, d time.Duration) error {
	var under [2][]int          // packets under way
	var last [2][]time.Duration // when one arrived or was sent
	waited := 0                 // total number of packets under way
	send := func(call, direction, n int) {
		for range n {
			g.queue(call, direction)
		}
		under[direction][call] += n
		waited += n
	}
	for direction := range g.sides {
		under[direction] = make([]int, len(g.flows[direction]))
		last[direction] = make([]time.Duration, len(g.flows[direction]))
		for call := range g.flows[direction] {
			send(call, direction, g.load.Window)
		}
	}
	now := time.Since(g.begin)
	again := true
	polled := make([]unix.PollFd, len(g.sides))
	for i, s := range g.sides {
		polled[i] = unix.PollFd{Fd: int32(s.descriptor()), Events: unix.POLLIN}
	}
	for looked := time.Duration(0); waited > 0; {
		now = time.Since(g.begin)
		again = now < d && ctx.Err() == nil
		if now-looked > quiet/2 {
			looked = now
			for direction := range g.sides {
				for call, n := range under[direction] {
					if n == 0 || now-last[direction][call] <= quiet {
						continue
					}
					waited -= n
					under[direction][call] = 0
					last[direction][call] = now
					if again {
						send(call, direction, n)
					}
				}
			}
		}
		came := false
		for direction := range g.sides {
			if err := g.flush(direction); err != nil {
				return err
			}
			came = g.receive(direction, false, func(call int) {
				last[direction][call] = now
				if under[direction][call] == 0 {
					return // it was considered lost
				}
				under[direction][call]--
				waited--
				if again {
					send(call, direction, 1)
				}
			}) || came
			if g.heard[direction].err != nil {
				return nil
			}
		}
		if !came {
			if _, err := unix.Poll(polled, int(quiet.Milliseconds()/2)); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	}
	g.took = time.Since(g.begin)
	return ctx.Err()
}
