//go:build amd64 || arm64

package turnsrv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// The scale of TestKernelPathChurn.
const (
	churnAllocations = 10000
	churnClients     = 32  // half of them with IPv6
	churnPeers       = 200 // addresses
	churnMessages    = 16  // of a call, in each direction, before it ends
	churnLate        = 4   // that both send while it ends
	// afterEnd is the serial number of messages that are sent after the server has confirmed the end. Nobody may get them.
	afterEnd = 2000
)

// pattern is what every message of the churn says: whose it is, in which direction it goes, and a serial number.
func pattern(call uint32, toPeer bool, serial int) []byte {
	b := make([]byte, 16+int(call+uint32(serial))%200)
	binary.BigEndian.PutUint32(b, 0x80000000|call) // no ChannelData
	if toPeer {
		b[4] = 1
	}
	binary.BigEndian.PutUint16(b[6:], uint16(serial))
	for i := 8; i < len(b); i++ {
		b[i] = byte(call) ^ byte(call>>8) ^ byte(i) ^ b[4]
	}
	return b
}

// checkPattern returns an error unless b is a message of a call and a direction.
func checkPattern(b []byte, call uint32, toPeer bool) error {
	if len(b) < 16 {
		return fmt.Errorf("%d bytes", len(b))
	}
	got := binary.BigEndian.Uint32(b) &^ 0x80000000
	if got != call {
		return fmt.Errorf("a message of call %d", got)
	}
	serial := int(binary.BigEndian.Uint16(b[6:]))
	if want := pattern(call, toPeer, serial); string(b) != string(want) {
		return fmt.Errorf("a damaged message: %x, want %x", b, want)
	}
	if serial == afterEnd {
		return errors.New("a message that was sent after the end")
	}
	return nil
}

// churn is a load of calls that come and go, which together make sure that nobody gets what is another's.
type churn struct {
	*kernelServer
	calls atomic.Uint32 // begun
	lost  atomic.Uint64
	got   atomic.Uint64
}

// churnPeer returns the address of a peer by its number.
func (f networkFamily) churnPeer(i int) netip.Addr {
	b := f.peer.AsSlice()
	b[len(b)-1] = byte(10 + i)
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// churnClient makes one call after the other from the same 5-tuple.
type churnClient struct {
	*rawClient
	family   networkFamily
	previous uint32 // call, of which packets may still be on their way
}

// TestKernelPathChurn makes and ends 10,000 allocations while their clients and peers keep sending, also after the end. Clients use
// the same 5-tuple again, ports of relayed addresses and entries of the program get other owners, and no packet may reach any but
// its own party, unchanged.
func TestKernelPathChurn(t *testing.T) {
	n := inNetwork(t)
	if n == nil {
		return
	}
	k := serveKernel(t, n, KernelPathOn)
	c := &churn{kernelServer: k}
	for i := range churnPeers {
		for _, f := range networkFamilies {
			turntest.IP(t, "-n", n.Peer, "addr", "add", netip.PrefixFrom(f.churnPeer(i), f.subnet).String(), "dev", "veth", "nodad")
		}
	}
	start := time.Now()
	var working sync.WaitGroup
	for i := range churnClients {
		f := networkFamilies[i%len(networkFamilies)]
		client := &churnClient{rawClient: k.client(t, f), family: f}
		working.Go(func() { n.In(t, n.Peer, func() { c.runAll(t, client) }) }) // sockets of peers are opened there
	}
	working.Wait()
	took := time.Since(start)
	counters := k.Counters()
	t.Logf("%d allocations in %v: %d messages arrived, %d were lost; kernel %+v", counters.AllocationsMade, took, c.got.Load(), c.lost.Load(), counters.Kernel)
	relayed := counters.ToPeer.Packets + counters.ToClient.Packets
	kernel := counters.Kernel.ToPeer.Packets + counters.Kernel.ToClient.Packets
	if kernel < relayed/4 {
		t.Errorf("the kernel has relayed only %d of %d packets", kernel, relayed)
	}
	if counters.AllocationsMade != churnAllocations || counters.Allocations != 0 || counters.Kernel.Channels != 0 {
		t.Errorf("%d allocations made, %d live, %d channels in the kernel", counters.AllocationsMade, counters.Allocations, counters.Kernel.Channels)
	}
	ended := counters.AllocationsEnded[event.EndedByClient]
	if ended != churnAllocations {
		t.Errorf("%d allocations ended by their client", ended)
	}
	// Both sides wait for each other, so that hardly anything can be lost but what is on its way at the end.
	if sent := uint64(2 * churnAllocations * churnMessages); c.lost.Load() > sent/100 {
		t.Errorf("%d of %d messages were lost", c.lost.Load(), sent)
	}
}

// runAll makes one call after the other until all have been made, or one has failed.
func (c *churn) runAll(t *testing.T, client *churnClient) {
	for !t.Failed() {
		call := c.calls.Add(1)
		if call > churnAllocations {
			return
		}
		if err := c.run(client, call); err != nil {
			t.Errorf("call %d: %v", call, err)
		}
		client.previous = call
	}
}

// run makes one call and ends it.
func (c *churn) run(client *churnClient, call uint32) error {
	number := 0x4000 + uint16(call%0x1000)
	at := netip.AddrPortFrom(client.family.churnPeer(int(call%churnPeers)), 0)
	p, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	defer p.Close()
	peerAddr := p.LocalAddr().(*net.UDPAddr).AddrPort()
	answer, err := c.request(client, call, stun.MethodAllocate, turntest.TransportUDP, turntest.Attr(stun.AttrRequestedAddressFamily, byte(client.family.request), 0, 0, 0))
	if err != nil {
		return err
	}
	relayed, err := stun.ParseXORAddress(answer.attrs[stun.AttrXORRelayedAddress], answer.TransactionID)
	if err != nil {
		return err
	}
	if _, err := c.request(client, call, stun.MethodChannelBind, turntest.Channel(number), turntest.PeerAddr(peerAddr)); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	for serial := range churnMessages {
		client.write(turntest.ChannelData(number, string(pattern(call, true, serial))))
		if err := c.atPeer(p, buf, call, relayed); err != nil {
			return err
		}
		if _, err := p.WriteToUDPAddrPort(pattern(call, false, serial), relayed); err != nil {
			return err
		}
		if err := c.atClient(client, call, number); err != nil {
			return err
		}
	}
	// The peer keeps sending while the client ends the call, and so does the client.
	var sending sync.WaitGroup
	sending.Go(func() {
		for serial := range churnLate {
			_, _ = p.WriteToUDPAddrPort(pattern(call, false, 1000+serial), relayed)
		}
	})
	for serial := range churnLate {
		client.write(turntest.ChannelData(number, string(pattern(call, true, 1000+serial))))
	}
	_, err = c.request(client, call, stun.MethodRefresh, turntest.Lifetime(0))
	client.write(turntest.ChannelData(number, string(pattern(call, true, afterEnd))))
	_, _ = p.WriteToUDPAddrPort(pattern(call, false, afterEnd), relayed)
	sending.Wait()
	for err == nil { // what has arrived meanwhile
		err = c.atPeer(p, buf, call, relayed, time.Millisecond)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// atPeer receives a message of the call, if it is not lost.
func (c *churn) atPeer(p *net.UDPConn, buf []byte, call uint32, relayed netip.AddrPort, patience ...time.Duration) error {
	timeout := 500 * time.Millisecond
	if len(patience) > 0 {
		timeout = patience[0]
	}
	_ = p.SetReadDeadline(time.Now().Add(timeout))
	n, from, err := p.ReadFromUDPAddrPort(buf)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && len(patience) == 0:
		c.lost.Add(1)
		return nil
	case err != nil:
		return err
	case netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) != relayed:
		return fmt.Errorf("the peer got a packet from %v, want %v", from, relayed)
	}
	c.got.Add(1)
	if err := checkPattern(buf[:n], call, true); err != nil {
		return fmt.Errorf("the peer got %w", err)
	}
	return nil
}

// atClient receives ChannelData of the call, if it is not lost.
func (c *churn) atClient(client *churnClient, call uint32, number uint16) error {
	b, err := client.tryRead(500 * time.Millisecond)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.lost.Add(1)
		return nil
	case err != nil:
		return err
	}
	return c.checkAtClient(b, call, number)
}

func (c *churn) checkAtClient(b []byte, call uint32, number uint16) error {
	if len(b) < 4 || binary.BigEndian.Uint16(b) != number {
		return fmt.Errorf("the client got %x, want channel %x", b[:min(len(b), 32)], number)
	}
	c.got.Add(1)
	if err := checkPattern(b[4:4+int(binary.BigEndian.Uint16(b[2:]))], call, false); err != nil {
		return fmt.Errorf("the client got %w", err)
	}
	return nil
}

// request sends a signed request, and checks the data that arrives before the answer: it may be of this call only, or of the one
// before it.
func (c *churn) request(client *churnClient, call uint32, method stun.Method, sets ...turntest.Set) (*answer, error) {
	if client.nonce == nil {
		client.challenge()
	}
	message := client.message(method, stun.ClassRequest, append(sets, client.sign)...)
	client.write(message)
	for {
		b, err := client.tryRead(10 * time.Second)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", method, err)
		}
		if len(b) >= 4 && b[0]&0xc0 == 0x40 {
			owner := binary.BigEndian.Uint32(b[4:]) &^ 0x80000000
			if owner != call && owner != client.previous {
				return nil, fmt.Errorf("the client got a message of call %d", owner)
			}
			if err := c.checkAtClient(b, owner, 0x4000+uint16(owner%0x1000)); err != nil {
				return nil, err
			}
			continue
		}
		m := client.parse(b)
		if m.Method != method || m.TransactionID[0] != client.serial {
			continue // of an earlier request
		}
		a := &answer{Message: m, raw: b, attrs: map[stun.AttrType][]byte{}}
		maps.Insert(a.attrs, a.Attributes())
		if a.Class != stun.ClassSuccess {
			return nil, fmt.Errorf("%v: %x", method, a.attrs[stun.AttrErrorCode])
		}
		return a, nil
	}
}
