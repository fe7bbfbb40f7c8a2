package daemon

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Listening returns once a connection to addr succeeds, for servers that do not say when they listen. The error after a minute
// has what d has written.
func (d *Daemon) Listening(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-d.exited:
			return fmt.Errorf("it ended before it listened:\n%s", d.Log())
		case <-ctx.Done():
			return fmt.Errorf("%w\n%s", err, d.Log())
		}
	}
}
