package e2e

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/load"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
)

// dialRelay connects a client with a valid credential to the relay at an address.
func dialRelay(ctx context.Context, network, address string) (*turnclient.Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	username := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	return turnclient.New(turnclient.Config{Conn: conn, Stream: network == "tcp", Username: username, Password: mint(username)}), nil
}

// calls are running calls of a test: see load.Config.
type calls struct {
	*load.Result
	err  error
	done chan struct{}
}

// startCalls makes calls over UDP through the relay at an address for a while, and returns when their packets flow.
func startCalls(t *testing.T, address string, allocations, pps int, duration time.Duration) *calls {
	t.Helper()
	c, flowing := &calls{done: make(chan struct{})}, make(chan struct{})
	var once sync.Once
	go func() {
		defer close(c.done)
		c.Result, c.err = load.Run(t.Context(), load.Config{
			Connect:     func(ctx context.Context) (*turnclient.Client, error) { return dialRelay(ctx, "udp", address) },
			Allocations: allocations, PPS: pps, Size: 160, Duration: duration,
			Progress: func(_, received int64) {
				if received > 0 {
					once.Do(func() { close(flowing) })
				}
			},
		})
	}()
	t.Cleanup(func() { <-c.done })
	select {
	case <-flowing:
	case <-c.done:
		t.Fatalf("the calls ended at once: %v", c.err)
	}
	return c
}

// wait waits until the calls have ended, and returns how many packets were lost.
func (c *calls) wait(t *testing.T) (lost int64) {
	t.Helper()
	<-c.done
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c.Sent - c.Received
}
