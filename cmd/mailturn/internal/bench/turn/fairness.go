package turn

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/generator"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// fewCalls is the load beside which the server is attacked.
var fewCalls = generator.Load{Calls: 20, PPS: 50, Burst: 1, Size: 160}

// An attack is something that one stranger or user does to the calls of others.
type attack struct {
	name string
	// prepare connects to the server and returns what is done again and again by one of the workers, until ctx is done. It is nil
	// if nothing is done.
	prepare func(ctx context.Context, b *bench, at address) (func(ctx context.Context) error, error)
	rate    int // how often per second; 0 means as often as possible
	workers int // goroutines
}

// attacks have the rates of an attacker with one processor.
var attacks = []attack{
	{name: "alone"},
	{name: "peer floods", prepare: peerFloods, workers: 1},
	{name: "client floods", prepare: clientFloods, workers: 1},
	{name: "184,000 forged signatures/s", prepare: forges, rate: 184000, workers: 1},
	{name: "10,000 allocations/s", prepare: allocates, rate: 10000, workers: 32},
	{name: "2,000 TLS hellos/s", prepare: hellos, rate: 2000, workers: 32},
}

// measureFairness measures what happens to calls beside each attack.
//
// The server has a processor to itself. On the other one, the generator comes first: otherwise, the delays would include its wait for the
// attacker.
func (b *bench) measureFairness(ctx context.Context, kinds []kind) error {
	kinds, leave, err := apart(kinds)
	if err != nil {
		return err
	}
	defer leave()
	for _, a := range attacks {
		r := relayRow{name: a.name, Load: fewCalls}
		b.table.Columns = append(b.table.Columns,
			report.Column{Name: a.name + " lost %", Format: "%.3f"},
			report.Column{Name: a.name + " p50 us", Format: "%.0f"}, report.Column{Name: a.name + " p99 us", Format: "%.0f"},
		)
		err := b.inTurn(ctx, "fairness, "+a.name, kinds, func(s *running, discard bool) error {
			r.during = func(run func() error) error { return b.attack(ctx, a, s.at, run) }
			return b.relay(ctx, r, s, discard)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

// attack performs an attack on a server while run runs.
func (b *bench) attack(ctx context.Context, a attack, at address, run func() error) error {
	if a.prepare == nil {
		return run()
	}
	ctx, cancel := context.WithCancel(ctx)
	var attacking sync.WaitGroup
	defer func() {
		cancel()
		attacking.Wait()
	}()
	_, last, err := cpus()
	if err != nil {
		return err
	}
	var failed atomic.Pointer[error]
	var done atomic.Int64
	begin := time.Now()
	for range a.workers {
		do, err := a.prepare(ctx, b, at)
		if err != nil {
			return err
		}
		attacking.Go(func() {
			leave, err := attackFrom(last)
			if err != nil {
				failed.Store(&err)
				return
			}
			defer leave()
			for ctx.Err() == nil {
				if early := time.Duration(done.Load())*time.Second/time.Duration(max(a.rate, 1)) - time.Since(begin); a.rate > 0 && early > 0 {
					time.Sleep(early)
					continue
				}
				done.Add(1)
				_ = do(ctx) // the server may refuse it
			}
		})
	}
	err = run()
	if failed := failed.Load(); failed != nil {
		return *failed
	}
	return err
}

// attacker returns a new client with an allocation, a channel, and a socket at the peer's end of it. All end with ctx.
func (b *bench) attacker(ctx context.Context, at address) (client, peer *net.UDPConn, relayed netip.AddrPort, err error) {
	local := netip.AddrPortFrom(b.nextClient(), 0)
	peer, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(local))
	if err != nil {
		return nil, nil, relayed, err
	}
	context.AfterFunc(ctx, func() { _ = peer.Close() })
	client, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(at.plain()))
	if err != nil {
		return nil, nil, relayed, err
	}
	c := b.client(client, false)
	context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = end(ending, c)
		_ = c.Close()
	})
	if relayed, err = reserve(ctx, c); err != nil {
		return nil, nil, relayed, err
	}
	if err = c.ChannelBind(ctx, stun.MinChannel, netip.AddrPortFrom(local.Addr(), uint16(peer.LocalAddr().(*net.UDPAddr).Port))); err != nil {
		return nil, nil, relayed, err
	}
	_, err = peer.WriteToUDPAddrPort([]byte("a peer that has answered"), relayed)
	return client, peer, relayed, err
}

// peerFloods sends to a relayed address.
func peerFloods(ctx context.Context, b *bench, at address) (func(context.Context) error, error) {
	_, peer, relayed, err := b.attacker(ctx, at)
	packet := make([]byte, fewCalls.Size)
	return func(context.Context) error {
		_, err := peer.WriteToUDPAddrPort(packet, relayed)
		return err
	}, err
}

// clientFloods sends to a peer.
func clientFloods(ctx context.Context, b *bench, at address) (func(context.Context) error, error) {
	client, _, _, err := b.attacker(ctx, at)
	var packet stun.Builder
	packet.ChannelData(stun.MinChannel, make([]byte, fewCalls.Size))
	return func(context.Context) error {
		_, err := client.Write(packet.Bytes())
		return err
	}, err
}

// forges sends requests that are signed with a wrong key and have a nonce of the server.
func forges(ctx context.Context, b *bench, at address) (func(context.Context) error, error) {
	conn, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.nextClient(), 0)), net.UDPAddrFromAddrPort(at.plain()))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	var forged stun.Builder
	forged.Start(stun.MethodAllocate, stun.ClassRequest, stun.TransactionID{1})
	forged.Uint32(stun.AttrRequestedTransport, 17<<24)
	answer := make([]byte, 1500)
	_ = conn.SetReadDeadline(time.Now().Add(startLimit))
	if _, err := conn.Write(forged.Bytes()); err != nil {
		return nil, err
	}
	n, err := conn.Read(answer)
	if err != nil {
		return nil, err
	}
	challenge, err := stun.Parse(answer[:n])
	if err != nil {
		return nil, err
	}
	forged.Text(stun.AttrUsername, b.credential.Username)
	for typ, value := range challenge.Attributes() {
		if typ == stun.AttrRealm || typ == stun.AttrNonce {
			forged.Attr(typ, value)
		}
	}
	forged.MessageIntegrity(make([]byte, 16))
	return func(context.Context) error {
		_, err := conn.Write(forged.Bytes())
		return err
	}, nil
}

// allocates makes an allocation and ends it.
func allocates(ctx context.Context, b *bench, at address) (func(context.Context) error, error) {
	clients, err := b.connect(ctx, at.plain(), 1)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { closeAll(clients) })
	if _, err := clients[0].Challenge(ctx); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if _, err := clients[0].Allocate(ctx); err != nil {
			return err
		}
		return end(context.WithoutCancel(ctx), clients[0])
	}, nil
}

// hellos begins a TLS handshake and leaves after the server has done its part.
func hellos(ctx context.Context, b *bench, at address) (func(context.Context) error, error) {
	near, far := net.Pipe()
	go func() { _ = tls.Client(near, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) }()
	hello := make([]byte, 4096)
	n, err := far.Read(hello)
	if err != nil {
		return nil, err
	}
	_, _ = far.Close(), near.Close()
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", at.secure().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.SetDeadline(time.Now().Add(startLimit))
		if _, err := conn.Write(hello[:n]); err != nil {
			return err
		}
		_, err = io.ReadFull(conn, make([]byte, 600)) // the ServerHello and what follows it
		return err
	}, nil
}
