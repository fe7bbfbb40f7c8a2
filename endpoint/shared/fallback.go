package shared

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
)

const (
	// dialTimeout limits the time to connect to the fallback, which is near.
	dialTimeout = 5 * time.Second
	// lingerTimeout is how long a client may take to close a connection that the fallback has ended.
	lingerTimeout = 30 * time.Second
	// passSize is the size of the buffers. A quiet connection has none. With twice as much, a download costs a fifth more CPU time,
	// because the buffer no longer stays in the cache with what the kernel needs.
	passSize = 32 << 10
)

// passBuffers holds buffers of passSize bytes between uses.
var passBuffers = sync.Pool{New: func() any { return new([passSize]byte) }}

// pass passes everything between a client and the fallback until both have ended. How long a connection may be quiet is up to the
// fallback.
func (p *Port) pass(conn *Conn) {
	c := p.config.Load()
	ctx, end := context.WithCancel(context.Background())
	defer end()
	entry := p.passing.enter(conn, end, c.MaxConnections)
	if entry == nil {
		p.counters.refused[fallbackFull].Add(1)
		return
	}
	defer p.passing.leave(entry)
	server, err := p.dialFallback(ctx, c, conn.origin)
	if ctx.Err() != nil && err != nil { // Shutdown, or the client had no patience
		return
	}
	if err != nil {
		p.counters.failures.Add(1)
		p.failures.Log(p.logger, slog.LevelWarn, "fallback cannot be reached", "fallback", c.Fallback, "client", conn.origin.Client.String(), "err", err)
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { server.Close() })()
	p.counters.passed.Add(1)
	if tcp, ok := conn.Conn.(*net.TCPConn); ok {
		tcp.SetKeepAliveConfig(patient.KeepAlive())
	}
	client, upstream := patient.New(conn.Conn), patient.New(server)
	if _, err := upstream.Write(conn.ahead); err != nil {
		return
	}
	conn.ahead = nil
	client.BeginPatience()
	upstream.BeginPatience()
	var answering sync.WaitGroup
	answering.Go(func() {
		if entry.transfer(client, upstream) == nil {
			client.SetReadDeadline(time.Now().Add(lingerTimeout)) // for the other direction
		} else {
			client.Close()
		}
	})
	if entry.transfer(upstream, client) != nil {
		upstream.Close()
	}
	answering.Wait()
}

// dialFallback connects to the fallback, and tells it where the client is if it wants to know.
func (p *Port) dialFallback(ctx context.Context, c *Config, from origin.Origin) (net.Conn, error) {
	server, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", c.Fallback)
	if err != nil || c.ProxyVersion == 0 {
		return server, err
	}
	header, err := from.ProxyHeader(c.ProxyVersion)
	if err == nil {
		_, err = server.Write(header)
	}
	if err != nil {
		server.Close()
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	return server, nil
}

// passed is a connection to the fallback.
type passed struct {
	conn   *Conn
	end    context.CancelFunc // ends the connection to the fallback, also while it is being made
	from   [2]netip.Prefix    // the address and the network of the client
	active atomic.Int64       // when bytes last passed, in Unix nanoseconds
}

// transfer passes what src sends to dst until src ends, and ends dst. The error is one of either connection; nil if src has sent
// everything.
func (e *passed) transfer(dst, src *patient.Conn) error {
	for {
		src.Await(0)
		if err := e.transferSome(dst, src); errors.Is(err, io.EOF) {
			return dst.CloseWrite()
		} else if err != nil {
			return err
		}
	}
}

// transferSome passes on what has arrived.
func (e *passed) transferSome(dst, src *patient.Conn) error {
	buffer := passBuffers.Get().(*[passSize]byte)
	defer passBuffers.Put(buffer)
	for {
		n, err := src.Read(buffer[:])
		if n > 0 {
			e.active.Store(time.Now().UnixNano())
			dst.SetWriteDeadline(time.Now().Add(patient.StallTimeout))
			if _, err := dst.Write(buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, patient.ErrNothingYet):
			return nil
		case err != nil:
			return err
		}
	}
}
