package turn

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
)

// nextClient returns an address that no client has used, because coturn may mistake a client at a used one for the earlier client.
func (b *bench) nextClient() netip.Addr {
	b.connected++
	return b.network.client(b.connected - 1)
}

// nextOtherClient is like nextClient, for a client that is where the peers are.
func (b *bench) nextOtherClient() netip.Addr {
	b.connected++
	return b.network.otherClient(b.connected - 1)
}

// client returns a client on conn, which is connected to a server.
func (b *bench) client(conn net.Conn, stream bool) *turnclient.Client {
	return turnclient.New(turnclient.Config{Conn: conn, Stream: stream, Username: b.credential.Username, Password: b.credential.Password})
}

// connect opens UDP sockets.
func (b *bench) connect(ctx context.Context, server netip.AddrPort, n int) ([]*turnclient.Client, error) {
	clients := make([]*turnclient.Client, 0, n)
	for range n {
		dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.nextClient(), 0))}
		conn, err := dialer.DialContext(ctx, "udp4", server.String())
		if err != nil {
			closeAll(clients)
			return nil, err
		}
		clients = append(clients, b.client(conn, false))
	}
	return clients, nil
}

func closeAll(clients []*turnclient.Client) {
	for _, c := range clients {
		c.Close()
	}
}

// allocate does what a new client does.
func allocate(ctx context.Context, c *turnclient.Client) error {
	if _, err := c.Challenge(ctx); err != nil {
		return err
	}
	_, err := c.Allocate(ctx)
	return err
}

// permit creates a permission for a peer to which nothing is sent.
func permit(ctx context.Context, c *turnclient.Client) error {
	return c.CreatePermission(ctx, netip.AddrFrom4([4]byte{1, 1, 1, 1}))
}

// bind binds a channel to a peer to which nothing is sent.
func bind(ctx context.Context, c *turnclient.Client) error {
	return c.ChannelBind(ctx, 0x4000, netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 1, 1, 1}), 9))
}

func refresh(ctx context.Context, c *turnclient.Client) error {
	_, err := c.Refresh(ctx, 10*time.Minute)
	return err
}

// allocateLong makes an allocation that lives for an hour. On a slow machine, it takes longer to make all of them than the ten minutes
// that an allocation lives by default.
func allocateLong(ctx context.Context, c *turnclient.Client) error {
	if err := allocate(ctx, c); err != nil {
		return err
	}
	_, err := c.Refresh(ctx, time.Hour)
	return err
}

func end(ctx context.Context, c *turnclient.Client) error {
	_, err := c.Refresh(ctx, 0)
	return err
}

// each calls f for every index below n, for a number of them concurrently, until one fails.
func (b *bench) each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, requestLimit, fmt.Errorf("not done in %v", requestLimit))
	defer cancel()
	var next atomic.Int64
	var working sync.WaitGroup
	fail := make(chan error, b.options.workers)
	for range b.options.workers {
		working.Go(func() {
			for len(fail) == 0 {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(ctx, i); err != nil {
					fail <- err
					return
				}
			}
		})
	}
	working.Wait()
	close(fail)
	return <-fail // nil if none failed
}

// eachClient calls f for every client.
func (b *bench) eachClient(ctx context.Context, clients []*turnclient.Client, f func(context.Context, *turnclient.Client) error) error {
	return b.each(ctx, len(clients), func(ctx context.Context, i int) error { return f(ctx, clients[i]) })
}
