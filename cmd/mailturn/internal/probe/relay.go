package probe

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

const (
	// maxAddresses limits how many addresses of a name are tried, half of them per family.
	maxAddresses = 8
	// maxAttempts is how many attempts are made concurrently. Each makes two allocations, and relays limit those of one user:
	// Synapse's documentation configures coturn for 12.
	maxAttempts = 6
)

// Stages of an attempt, the values of Relay.Stage.
const (
	stageRoute     = "route"   // this machine has no route to that family
	stageConnect   = "connect" // TCP
	stageTLS       = "tls"
	stageBinding   = "binding"
	stageChallenge = "challenge"
	stageAllocate  = "allocate"
	stageRelay     = "relay" // relay to relay
)

// attempt is an attempt at one address over one transport.
type attempt struct {
	addr netip.AddrPort
	Relay
	err       error
	anonymous bool
	// directSkipped says why Direct is missing, if there is an allocation.
	directSkipped string
	// whole makes the system send each datagram to the relay in one packet.
	whole bool
}

// relays tries every address over every transport, and then what the relay must refuse.
func (r *run) relays(ctx context.Context) {
	var attempts []*attempt
	for _, addr := range r.addresses() {
		for _, transport := range r.transports {
			if r.Depth == Quick && transport != r.primary() {
				continue
			}
			attempts = append(attempts, &attempt{addr: netip.AddrPortFrom(addr, r.value.Port), Relay: Relay{Transport: transport}, whole: transport == UDP})
		}
		if r.tlsPort != 0 && r.Depth != Quick {
			attempts = append(attempts, &attempt{addr: netip.AddrPortFrom(addr, r.tlsPort), Relay: Relay{Transport: TLS}})
		}
	}
	if n := len(r.addresses()); n < len(r.addrs) {
		r.report.add("turn.dns", r.value.Hostname, Note, fmt.Sprintf("%[2]d of %[1]d addresses were tried.", len(r.addrs), n), "")
		r.report.notTested(fmt.Sprintf("%d of the %d addresses of %s", len(r.addrs)-n, len(r.addrs), r.value.Hostname))
	}
	r.Progress(fmt.Sprintf("relaying over %d paths", len(attempts)))
	var tries sync.WaitGroup
	slots := make(chan struct{}, maxAttempts)
	for _, a := range attempts {
		a.Address = a.addr.String()
		slots <- struct{}{}
		tries.Go(func() {
			r.try(ctx, a)
			<-slots
		})
	}
	tries.Wait()
	var best *attempt
	for _, a := range attempts {
		if a.err != nil {
			a.Error = a.err.Error()
			a.Code = int(turnclient.Code(a.err))
		}
		r.report.Relays = append(r.report.Relays, a.Relay)
		if best == nil && a.RelayedAddr != "" {
			best = a
		}
	}
	r.judgeRelays(attempts)
	if best != nil && r.Depth != Quick {
		r.safety(ctx, best)
	}
}

// addresses returns the addresses to try: all up to the limit, or with Quick one of each family.
func (r *run) addresses() (addrs []netip.Addr) {
	ofFamily := maxAddresses / 2
	if r.Depth == Quick {
		ofFamily = 1
	}
	tried := make(map[bool]int)
	for _, addr := range r.addrs {
		if tried[addr.Is4()]++; tried[addr.Is4()] <= ofFamily {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// primary returns the transport that decides: UDP, which clients use, if it is tried.
func (r *run) primary() Transport { return r.transports[0] }

// connect returns a client for the attempt, or an error and the stage in which it occurred.
func (r *run) connect(ctx context.Context, a *attempt, username, password string) (e *turnclient.Client, stage string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Depth.patience())
	defer cancel()
	network := "tcp"
	if a.Transport == UDP {
		network = "udp"
	}
	var dialer net.Dialer
	start := time.Now()
	conn, err := dialer.DialContext(ctx, network, a.addr.String())
	if errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
		return nil, stageRoute, err
	} else if err != nil {
		return nil, stageConnect, err
	}
	if a.whole {
		_ = dontFragment(conn) // without it, the MTU of the path may look larger than it is
	}
	if a.Transport != UDP && a.ConnectMS == 0 {
		a.ConnectMS = milliseconds(time.Since(start))
	}
	if a.Transport == TLS {
		secure, certificate, err := r.handshake(ctx, conn, &tls.Config{ServerName: r.value.Hostname})
		a.TLS = certificate
		if err != nil {
			conn.Close()
			return nil, stageTLS, err
		}
		conn = secure
	}
	return turnclient.New(turnclient.Config{Conn: conn, Stream: a.Transport != UDP, Username: username, Password: password}), "", nil
}

// allocate returns a client with an allocation. Call finish to end it.
func (r *run) allocate(ctx context.Context, a *attempt, username, password string) (e *turnclient.Client, allocation turnclient.Allocation, stage string, err error) {
	connected, stage, err := r.connect(ctx, a, username, password)
	if err != nil {
		return nil, allocation, stage, err
	}
	defer func() {
		if err != nil {
			connected.Close()
		}
	}()
	ask := func(do func(ctx context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, r.Depth.patience())
		defer cancel()
		return do(ctx)
	}
	err = ask(func(ctx context.Context) error {
		binding, err := connected.Bind(ctx)
		if err == nil && a.BindingMS == 0 {
			a.BindingMS, a.Mapped = milliseconds(binding.Duration), binding.Mapped.String()
		}
		return err
	})
	if err != nil {
		return nil, allocation, stageBinding, err
	}
	err = ask(func(ctx context.Context) error {
		challenge, err := connected.Challenge(ctx)
		if err == nil {
			a.Realm, a.RequestBytes, a.ResponseBytes = printable(challenge.Realm), challenge.RequestBytes, challenge.ResponseBytes
		}
		return err
	})
	if err != nil {
		return nil, allocation, stageChallenge, err
	}
	err = ask(func(ctx context.Context) (err error) {
		allocation, err = connected.Allocate(ctx)
		return err
	})
	return connected, allocation, stageAllocate, err
}

// finish ends an allocation, so that it does not count towards a quota until it expires.
func (r *run) finish(e *turnclient.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), r.Depth.patience())
	defer cancel()
	_, _ = e.Refresh(ctx, 0)
	e.Close()
}

// try makes a call between two clients.
func (r *run) try(ctx context.Context, a *attempt) {
	caller, from, stage, err := r.allocate(ctx, a, r.value.Username, r.value.Password)
	if err != nil {
		a.Stage, a.err = stage, err
		a.anonymous = errors.Is(err, turnclient.ErrNoChallenge)
		if a.Transport == UDP && stage == stageBinding && errors.Is(err, turnclient.ErrNoAnswer) {
			if from := r.answersFrom(ctx, a.addr); from.IsValid() {
				a.err = strayError{from}
			}
		}
		return
	}
	defer r.finish(caller)
	a.AllocateMS, a.RelayedAddr, a.LifetimeS = milliseconds(from.Duration), from.Relayed.String(), int(from.Lifetime/time.Second)
	r.direct(ctx, a, caller, from)

	called, to, _, err := r.allocate(ctx, a, r.value.Username, r.value.Password)
	if err != nil {
		a.Stage, a.err = stageRelay, fmt.Errorf("the second caller: %w", err)
		return
	}
	defer r.finish(called)
	if a.RelayToRelay, err = r.relayToRelay(ctx, a, caller, called, from.Relayed, to.Relayed); err != nil {
		a.Stage, a.err = stageRelay, err
	} else if a.RelayToRelay.Received == 0 {
		a.Stage = stageRelay
	}
	if a.Transport == UDP && a.RelayToRelay != nil && a.RelayToRelay.LargestBytes > 0 {
		a.PathMTU = ipBytes(a.addr.Addr().Unmap(), a.RelayToRelay.LargestBytes)
	}
}

// strayError means that an answer came from an address other than the one that was asked.
type strayError struct{ from netip.AddrPort }

func (e strayError) Error() string { return fmt.Sprintf("the answer comes from %v", e.from) }

// answersFrom asks a server that does not answer again, from a socket that receives packets from any address, and returns where
// the answer came from if it was another address.
func (r *run) answersFrom(ctx context.Context, server netip.AddrPort) (from netip.AddrPort) {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return from
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, r.Depth.patience()/4)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	var id stun.TransactionID
	_, _ = rand.Read(id[:]) // never fails
	var b stun.Builder
	b.Start(stun.MethodBinding, stun.ClassRequest, id)
	for range 2 { // one may be lost
		_, _ = conn.WriteToUDPAddrPort(b.Bytes(), server)
	}
	buf := make([]byte, 1500)
	for {
		n, addr, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return from
		}
		addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		if m, err := stun.Parse(buf[:n]); err == nil && m.TransactionID == id && m.Class == stun.ClassSuccess && addr != server {
			return addr
		}
	}
}

// relayToRelay binds a channel at each end, sends packets, and makes the callee send them back. Over UDP, it then finds the maximum
// packet size; over a stream, there are no packets between here and the relay.
func (r *run) relayToRelay(ctx context.Context, a *attempt, caller, called *turnclient.Client, from, to netip.AddrPort) (*Echo, error) {
	binding, cancel := context.WithTimeout(ctx, r.Depth.patience())
	defer cancel()
	if err := caller.ChannelBind(binding, stun.MinChannel, to); err != nil {
		return nil, err
	}
	if err := called.ChannelBind(binding, stun.MinChannel, from); err != nil {
		return nil, err
	}
	e := newEcho(r.Depth.packets())
	called.Handle(func(d turnclient.Data) {
		if d.Channel == stun.MinChannel {
			_ = called.SendChannel(stun.MinChannel, d.Payload)
		}
	})
	caller.Handle(func(d turnclient.Data) {
		if d.Channel == stun.MinChannel {
			e.received(d.Payload)
		}
	})
	send := func(payload []byte) error { return caller.SendChannel(stun.MinChannel, payload) }
	result := e.run(ctx, r.Depth.patience()/2, send)
	if a.Transport == UDP && result.Received > 0 {
		search := newSizeSearch()
		caller.Handle(func(d turnclient.Data) {
			if d.Channel == stun.MinChannel {
				search.received(d.Payload)
			}
		})
		result.LargestBytes = search.run(ctx, r.Depth.sizeCopies(), r.Depth.sizePatience(result), send)
	}
	return result, nil
}

// plainly returns the text of an error without mentioning contexts.
func plainly(err error) string {
	return strings.Replace(err.Error(), context.DeadlineExceeded.Error(), "no answer in time", 1)
}

// networkReason returns the text of a connection error for people.
func networkReason(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there (connection refused)"
	case errors.Is(err, turnclient.ErrNoAnswer), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to it"
	default:
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
}
