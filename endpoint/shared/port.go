package shared

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/turnsrv"
)

// helloTimeout limits the time from a connection to a whole ClientHello, and again that of a handshake, and of the first words after
// it. It is that of the relay for handshakes.
const helloTimeout = 10 * time.Second

// Port is a listening port for several endpoints. New ─▶ Open ─▶ Listen, for each endpoint ─▶ Serve ─▶ StopAccepting ─▶ Shutdown.
// Its methods are safe for concurrent use.
type Port struct {
	logger     *slog.Logger
	config     atomic.Pointer[Config]
	handshakes *turnsrv.Handshakes
	socket     *pausable // from Open on
	counters   counters
	pending    pending
	passing    passing
	refusals   log.Limit // of lines about proxies without a header
	failures   log.Limit // of lines about the fallback

	mu      sync.Mutex // guards what follows
	members []*member  // in the order of their protocols

	accepting sync.WaitGroup
	serving   sync.WaitGroup
	stopped   sync.Once
	ended     chan struct{} // closed by Shutdown: nothing waits for an endpoint any more
}

// New returns a port. It binds no socket.
func New(c Config, logger *slog.Logger) *Port {
	p := &Port{logger: logger.With("shared_port", c.Listen.String()), handshakes: turnsrv.NewHandshakes(), ended: make(chan struct{})}
	p.config.Store(&c)
	return p
}

// Apply replaces the configuration. The address and the endpoints stay the same: see NeedsRestart.
func (p *Port) Apply(c Config) { p.config.Store(&c) }

// Open binds the socket. Connections wait in its queue until Serve is called.
func (p *Port) Open(ctx context.Context) error {
	c := p.config.Load()
	socket, err := c.Sockets.Listen(ctx, c.Listen.HostPort())
	if err != nil {
		return listen.Error(c.Listen, c.ListenRange, err)
	}
	p.socket = &pausable{Listener: socket, closed: make(chan struct{})}
	return nil
}

// Addr returns the address of the socket.
func (p *Port) Addr() net.Addr { return p.socket.Addr() }

// Listen returns the listener of an endpoint. It returns connections of the type *Conn.
func (p *Port) Listen(m Member) net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	added := newMember(p, m)
	at := len(p.members)
	for at > 0 && p.members[at-1].Protocol > m.Protocol {
		at--
	}
	p.members = append(p.members[:at:at], append([]*member{added}, p.members[at:]...)...)
	return added
}

// Serve accepts connections in another goroutine until StopAccepting is called.
func (p *Port) Serve() {
	c := p.config.Load()
	p.logger.Info("sharing a port", "endpoints", c.Endpoints, "fallback", c.Fallback)
	p.accepting.Go(func() {
		listen.Serve(p.socket, p.logger, func(conn net.Conn) {
			p.serving.Go(func() { p.serve(conn) })
		})
	})
}

// Pause leaves new connections in the queue of the socket, from which another process may take them, until Resume is called.
func (p *Port) Pause() { p.socket.pause() }

// Resume undoes Pause.
func (p *Port) Resume() { p.socket.resume() }

// StopAccepting closes the socket in this process: see systemd.Listeners.
func (p *Port) StopAccepting() {
	p.stopped.Do(func() {
		p.socket.Close()
		p.accepting.Wait()
	})
}

// SettleTime is how long it takes to tell a connection apart, unless its client is very slow.
const SettleTime = maxSilence + time.Second

// Settle waits until all connections that have been accepted are told apart, or ctx is done. Call it after StopAccepting, while the
// endpoints still accept.
func (p *Port) Settle(ctx context.Context) {
	ticker := time.NewTicker(finishInterval)
	defer ticker.Stop()
	for p.pending.count() > 0 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Shutdown ends everything that endpoints do not have: connections to the fallback when they are quiet, or when ctx is done. It
// returns when every goroutine of the port has ended, and is called once.
func (p *Port) Shutdown(ctx context.Context) {
	p.StopAccepting()
	close(p.ended)
	p.pending.closeAll()
	p.passing.finish(ctx)
	p.serving.Wait()
}

// serve tells what a connection is and passes it on.
func (p *Port) serve(socket net.Conn) {
	conn := &Conn{Conn: socket, origin: origin.Of(socket)}
	proxied := p.config.Load().Proxies.Contains(conn.origin.Client.Addr())
	if !p.pending.enter(socket, conn.origin.Client.Addr(), proxied) {
		p.counters.refused[crowded].Add(1)
		socket.Close()
		return
	}
	taken := false
	defer func() {
		if !taken { // otherwise see member.Accept
			p.pending.leave(socket)
			socket.Close()
		}
	}()
	socket.SetDeadline(time.Now().Add(helloTimeout))
	if proxied && !p.readProxyHeader(conn) {
		return
	}
	hello, err := readHello(socket, func() { p.pending.enlarge(socket) })
	if err != nil {
		if !errors.Is(err, io.EOF) || len(hello.read) > 0 { // otherwise a health check
			p.counters.refused[silent].Add(1)
		}
		return
	}
	socket.SetDeadline(time.Time{})
	conn.ahead = hello.read
	switch route := p.route(&hello); {
	case route.fallback:
		if p.pending.leave(socket) {
			p.pass(conn)
		}
	case hello.answer != nil:
		p.answer(conn, hello.answer)
	case len(route.candidates) == 0:
		p.counters.refused[unintelligible].Add(1)
	case len(route.candidates) == 1:
		taken = p.deliver(route.candidates[0], conn)
	default:
		taken = p.ask(conn, route.candidates)
	}
}

// readProxyHeader reads the header with which the connection of a proxy begins, and reports whether there was one.
func (p *Port) readProxyHeader(conn *Conn) bool {
	proxy := conn.origin.Client
	named, err := conn.origin.ReadProxyHeader(conn.Conn)
	if err != nil {
		if !errors.Is(err, io.EOF) { // a health check
			p.refusals.Log(p.logger, slog.LevelWarn, "connection from a proxy refused", "client", proxy.Addr(), "err", err)
			p.counters.refused[noHeader].Add(1)
		}
		return false
	}
	conn.origin = named
	if !p.pending.move(conn.Conn, named.Client.Addr()) {
		p.counters.refused[crowded].Add(1)
		return false
	}
	return true
}

// deliver passes conn to an endpoint.
func (p *Port) deliver(m *member, conn *Conn) bool {
	if !m.deliver(conn, helloTimeout) {
		p.counters.refused[endpointClosed].Add(1)
		return false
	}
	p.counters.taken[m.Protocol].Add(1)
	return true
}
