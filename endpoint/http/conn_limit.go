package http

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// maxConnsPerSource is how many connections an address (IPv6: /64) may have at a time, unless it is a trusted proxy. A browser
// opens six.
const maxConnsPerSource = 100

// connLimit bounds the number of open connections. net/http has no such bound, and a silent connection costs memory until
// readTimeout.
type connLimit struct {
	settings *atomic.Pointer[settings]
	logger   *slog.Logger
	lines    log.Limit

	mu      sync.Mutex
	total   int
	sources map[netip.Prefix]int // only positive counts; by source
}

func newConnLimit(settings *atomic.Pointer[settings], logger *slog.Logger) *connLimit {
	return &connLimit{settings: settings, logger: logger, sources: make(map[netip.Prefix]int)}
}

// listener returns a listener that immediately closes connections of l over the limit.
func (c *connLimit) listener(l net.Listener) net.Listener { return &limitedListener{l, c} }

// enter counts a connection from addr and reports whether it may be served.
func (c *connLimit) enter(addr netip.Addr) (source netip.Prefix, ok bool) {
	present := c.settings.Load()
	if !present.proxies.Contains(addr) {
		source = limit.Host(addr)
	} // else the zero Prefix, which stands for all proxies and is not limited
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= present.maxConnections || source.IsValid() && c.sources[source] >= maxConnsPerSource {
		return source, false
	}
	c.total++
	if source.IsValid() {
		c.sources[source]++
	}
	return source, true
}

// leave ends the count of a connection that enter has allowed.
func (c *connLimit) leave(source netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if !source.IsValid() {
		return
	}
	if c.sources[source]--; c.sources[source] == 0 {
		delete(c.sources, source)
	}
}

type limitedListener struct {
	net.Listener
	limit *connLimit
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.limit.lines.Log(l.limit.logger, slog.LevelWarn, "accepting a connection", "listen", l.Addr().String(), "err", err)
			}
			return nil, err // net/http waits and tries again
		}
		client := peerAddr(conn.RemoteAddr().String())
		source, ok := l.limit.enter(client)
		if ok {
			return &limitedConn{Conn: conn, leave: func() { l.limit.leave(source) }}, nil
		}
		l.limit.lines.Log(l.limit.logger, slog.LevelWarn, "connection refused: there are too many", "client", client)
		conn.Close()
	}
}

// limitedConn leaves the count when it is first closed.
type limitedConn struct {
	net.Conn
	once  sync.Once
	leave func()
}

func (c *limitedConn) Close() error {
	c.once.Do(c.leave)
	return c.Conn.Close()
}

// CloseWrite is for net/http, which closes the writing half first so that a client receives the whole answer to a request that was not
// read to its end.
func (c *limitedConn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}
