package probe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

const (
	// echoInterval is the interval of voice packets.
	echoInterval = 20 * time.Millisecond
	// echoSize is the size of a voice packet in bytes.
	echoSize = 160
)

// echo sends numbered packets, and measures the time until each comes back.
type echo struct {
	mark [8]byte // the beginning of this echo's packets

	mu       sync.Mutex // guards what follows
	sent     []time.Time
	rtts     []time.Duration
	seen     map[uint32]bool
	complete chan struct{} // closed when all have come back
}

func newEcho(n int) *echo {
	e := &echo{sent: make([]time.Time, 0, n), seen: make(map[uint32]bool, n), complete: make(chan struct{})}
	_, _ = rand.Read(e.mark[:]) // never fails
	return e
}

// received counts a packet that has come back, once.
func (e *echo) received(payload []byte) {
	if len(payload) != echoSize || [8]byte(payload[:8]) != e.mark {
		return
	}
	number := binary.BigEndian.Uint32(payload[8:])
	e.mu.Lock()
	defer e.mu.Unlock()
	if int(number) >= len(e.sent) || e.seen[number] {
		return
	}
	e.seen[number] = true
	e.rtts = append(e.rtts, time.Since(e.sent[number]))
	if len(e.rtts) == cap(e.sent) {
		close(e.complete)
	}
}

// run sends all packets at their interval, and then waits up to patience for the missing ones.
func (e *echo) run(ctx context.Context, patience time.Duration, send func(payload []byte) error) *Echo {
	ticker := time.NewTicker(echoInterval)
	defer ticker.Stop()
	payload := make([]byte, echoSize)
	copy(payload, e.mark[:])
	for number := range cap(e.sent) {
		binary.BigEndian.PutUint32(payload[8:], uint32(number))
		e.mu.Lock()
		e.sent = append(e.sent, time.Now())
		e.mu.Unlock()
		if send(payload) != nil {
			break
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return e.result()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-e.complete:
	case <-ctx.Done():
	}
	return e.result()
}

func (e *echo) result() *Echo {
	e.mu.Lock()
	defer e.mu.Unlock()
	result := &Echo{Sent: len(e.sent), Received: len(e.rtts)}
	if len(e.rtts) > 0 {
		sorted := slices.Sorted(slices.Values(e.rtts))
		result.MinMS, result.MedianMS, result.MaxMS = milliseconds(sorted[0]), milliseconds(sorted[len(sorted)/2]), milliseconds(sorted[len(sorted)-1])
	}
	return result
}
