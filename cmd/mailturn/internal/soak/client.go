package soak

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

const (
	// requestTimeout limits the time for one request, and echoTimeout the time until one message comes back: longer than on a busy
	// machine.
	requestTimeout = 30 * time.Second
	echoTimeout    = 5 * time.Second

	maxChannels = 4
	maxPayload  = 1200
	maxBurst    = 8 // messages
)

// counts has the totals of all clients.
type counts struct {
	clients, ended, closed, vanished atomic.Int64
	bound, refreshed                 atomic.Int64
	sent, lost, strange              atomic.Int64
}

// crowd is the state that the clients of a soak share.
type crowd struct {
	server *server
	echo   netip.AddrPort
	pause  time.Duration
	// lifetime is the lifetime of allocations without a refresh.
	lifetime time.Duration
	counts   counts
	// left has the connections of clients that left silently, each of which the server must end.
	left sync.WaitGroup
}

// person is one client from its connection to its end.
type person struct {
	*crowd
	random    *rand.Rand
	transport event.Transport
	conn      net.Conn           // under the transport
	ended     chan struct{}      // closed when the client can read no more
	client    *turnclient.Client // nil after it has left silently
	relayed   netip.AddrPort
	fresh     time.Time // when the allocation was made or last refreshed
	channels  []stun.ChannelNumber

	back    chan []byte
	missing [][]byte // messages that have not come back
}

// live runs one client after the other until ctx is done.
func (c *crowd) live(ctx context.Context, random *rand.Rand) error {
	for ctx.Err() == nil {
		p := &person{crowd: c, random: random, transport: event.Transport(random.IntN(4)), back: make(chan []byte, maxBurst)}
		if err := p.life(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("client over %v: %w", p.transport, err)
		}
	}
	return nil
}

// life runs a client. Requests that are under way when ctx is done are finished.
func (p *person) life(ctx context.Context) error {
	if err := p.connect(); err != nil {
		return err
	}
	defer func() {
		if p.client != nil {
			_ = p.client.Close()
			_ = p.conn.Close()
		}
	}()
	p.counts.clients.Add(1)
	if err := p.request(func(ctx context.Context) error {
		if _, err := p.client.Challenge(ctx); err != nil {
			return err
		}
		allocation, err := p.client.Allocate(ctx)
		p.relayed, p.fresh = allocation.Relayed, time.Now()
		return err
	}); turnclient.Code(err) == stun.CodeAllocationMismatch && p.transport == event.UDP {
		return nil // a client left this port silently, and the server still has its allocation
	} else if err != nil {
		return err
	}
	for range p.random.IntN(20) {
		if !p.rest(ctx) {
			break
		}
		var err error
		switch n := p.random.IntN(10); {
		case len(p.channels) == 0 || n < 2 && time.Since(p.fresh) <= p.lifetime/2:
			err = p.bind()
		case n < 3 || time.Since(p.fresh) > p.lifetime/2:
			p.counts.refreshed.Add(1)
			p.fresh = time.Now()
			err = p.request(func(ctx context.Context) error { _, err := p.client.Refresh(ctx, time.Hour); return err })
		default:
			err = p.talk()
		}
		if err != nil {
			return err
		}
	}
	return p.leave()
}

// connect connects with the client's transport.
func (p *person) connect() error {
	network, addr := "udp4", p.server.udp
	switch p.transport {
	case event.TCP:
		network, addr = "tcp4", p.server.tcp
	case event.TLS:
		network, addr = "tcp4", p.server.tls
	}
	var err error
	if p.conn, err = net.Dial(network, addr.String()); err != nil {
		return err
	}
	conn := p.conn
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	switch p.transport {
	case event.TLS:
		tlsConn := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		err, conn = tlsConn.HandshakeContext(ctx), tlsConn
	case event.DTLS:
		var dtlsConn *dtls.Conn
		dtlsConn, err = dtls.ClientWithOptions(connected{p.conn}, p.conn.RemoteAddr(), dtls.WithInsecureSkipVerify(true))
		if err == nil {
			err, conn = dtlsConn.HandshakeContext(ctx), dtlsConn
		}
	}
	if err != nil {
		_ = p.conn.Close()
		return fmt.Errorf("handshake: %w", err)
	}
	p.ended = make(chan struct{})
	p.client = turnclient.New(turnclient.Config{
		Conn: watched{conn, p.ended}, Stream: network == "tcp4",
		Username: p.server.credential.Username, Password: p.server.credential.Password,
	})
	p.client.Handle(func(d turnclient.Data) {
		if d.Channel == 0 {
			// The system may give the port of a client that has left to the relay, which then receives what the server still sends
			// to that client, such as a close_notify of DTLS. It does not come from the peer of a channel.
			p.counts.strange.Add(1)
			return
		}
		select {
		case p.back <- bytes.Clone(d.Payload):
		default: // more than was sent: talk detects that
		}
	})
	return nil
}

// connected turns a connected UDP socket into a net.PacketConn.
type connected struct{ net.Conn }

func (c connected) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.RemoteAddr(), err
}

func (c connected) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

func (p *person) request(f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	return f(ctx)
}

// rest waits for a while and reports whether the client continues.
func (p *person) rest(ctx context.Context) bool {
	select {
	case <-time.After(time.Duration(p.random.Int64N(2 * int64(p.pause)))):
		return true
	case <-ctx.Done():
		return false
	}
}

// bind binds one more channel, or one again. The first is bound to the peer, the second to the client's own relayed address, which
// the server reaches without a socket, and the others to unused ports.
func (p *person) bind() error {
	n := min(len(p.channels), p.random.IntN(maxChannels))
	peer := p.echo
	switch n {
	case 0:
	case 1:
		peer = p.relayed
	default:
		peer = netip.AddrPortFrom(loopback, uint16(20000+n))
	}
	number := stun.MinChannel + stun.ChannelNumber(n)
	p.counts.bound.Add(1)
	if err := p.request(func(ctx context.Context) error { return p.client.ChannelBind(ctx, number, peer) }); err != nil {
		return err
	}
	if n == len(p.channels) {
		p.channels = append(p.channels, number)
	}
	return nil
}

// talk sends some messages to one of the first two channels and waits until all have come back.
func (p *person) talk() error {
	channel := p.channels[p.random.IntN(min(2, len(p.channels)))]
	sent := make([][]byte, 1+p.random.IntN(maxBurst))
	for i := range sent {
		sent[i] = make([]byte, 8+p.random.IntN(maxPayload-8))
		for j := range len(sent[i]) / 8 {
			binary.LittleEndian.PutUint64(sent[i][8*j:], p.random.Uint64())
		}
		p.counts.sent.Add(1)
		if err := p.client.SendChannel(channel, sent[i]); err != nil {
			return err
		}
	}
	timeout := time.NewTimer(echoTimeout)
	defer timeout.Stop()
	for len(sent) > 0 {
		select {
		case got := <-p.back:
			isIt := func(m []byte) bool { return bytes.Equal(m, got) }
			if i := slices.IndexFunc(sent, isIt); i >= 0 {
				sent = slices.Delete(sent, i, i+1)
			} else if i := slices.IndexFunc(p.missing, isIt); i >= 0 { // late, on a busy machine
				p.missing = slices.Delete(p.missing, i, i+1)
				p.counts.lost.Add(-1)
			} else {
				return fmt.Errorf("%d bytes came back that were not sent", len(got))
			}
		case <-timeout.C:
			p.missing = append(p.missing, sent...)
			p.counts.lost.Add(int64(len(sent)))
			return nil
		}
	}
	return nil
}

// leave ends the client in one of three ways.
func (p *person) leave() error {
	switch p.random.IntN(3) {
	case 0:
		p.counts.ended.Add(1)
		return p.request(func(ctx context.Context) error { _, err := p.client.Refresh(ctx, 0); return err })
	case 1: // over UDP, the server does not notice
		p.counts.closed.Add(1)
		return nil
	}
	p.counts.vanished.Add(1)
	if p.transport == event.UDP || p.transport == event.DTLS {
		return p.conn.Close() // so that nothing can send a farewell
	}
	// The connection remains open and silent until the server closes it.
	client, ended := p.client, p.ended
	p.client = nil
	p.left.Go(func() {
		<-ended
		_ = client.Close()
	})
	return nil
}

// watched is a connection that reports its end.
type watched struct {
	net.Conn
	ended chan struct{}
}

// Read is called by one goroutine, and not again after an error.
func (w watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err != nil {
		close(w.ended)
	}
	return n, err
}
