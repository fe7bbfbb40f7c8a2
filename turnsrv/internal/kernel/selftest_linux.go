//go:build amd64 || arm64

package kernel

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
)

// The program's results.
const (
	passedUp   = 0xffffffff
	redirected = 7
)

// run runs the program with a frame that arrives over the loopback interface, and returns its result and the frame as it leaves.
func (p *Path) run(in []byte, ctx any) (result uint32, out []byte, err error) {
	options := ebpf.RunOptions{Data: in, DataOut: make([]byte, len(in)+64), Context: ctx}
	result, err = p.objects.MailturnRelay.Run(&options)
	return result, options.DataOut, err
}

// check relays a few packets between addresses of the documentation, in both families and directions, through the program of this
// system: what it makes of them must be exactly what was asked for. It is called before the program is attached.
func (p *Path) check(now time.Time) error {
	for _, a := range [][4]string{
		{"192.0.2.1:5000", "198.51.100.1:3478", "198.51.100.2:50000", "203.0.113.9:6000"},
		{"[2001:db8:1::1]:5000", "[2001:db8::1]:3478", "[2001:db8::2]:50000", "[2001:db8:2::9]:6000"},
	} {
		loopback := Route{Interface: 1, MTU: 1500}
		b := Binding{
			Client: netip.MustParseAddrPort(a[0]), Server: netip.MustParseAddrPort(a[1]), Number: 0x4001,
			Relay: netip.MustParseAddrPort(a[2]), Peer: netip.MustParseAddrPort(a[3]),
			ToClient: loopback, ToPeer: loopback, Until: now.Add(time.Minute),
		}
		c, err := p.Add(b, now)
		if err != nil {
			return fmt.Errorf("check the program: %w", err)
		}
		payload := []byte("mailturn checks its program")
		toPeer := frame{from: b.Client, to: b.Server, payload: channelData(uint16(b.Number), payload), hops: 64}
		toClient := frame{from: b.Peer, to: b.Relay, payload: payload, hops: 64}
		err = p.expect(toPeer, passedUp, toPeer) // the peer has not answered
		if err == nil {
			err = p.expect(toClient, redirected, frame{from: b.Server, to: b.Client, payload: toPeer.payload, hops: 63})
		}
		if err == nil {
			err = p.expect(toPeer, redirected, frame{from: b.Relay, to: b.Peer, payload: payload, hops: 63})
		}
		c.End(now)
		if err == nil {
			err = p.expect(toPeer, passedUp, toPeer)
		}
		if err != nil {
			return err
		}
		// No packet of an interface has met the program yet, so its entries need no rest.
		p.entries.freeRested(now.Add(restFor))
	}
	// What was counted was no packet of a client.
	zero := make([]uint64, ebpf.MustPossibleCPU())
	for r := range NumReasons {
		if err := p.objects.Passed.Put(objectReason(r), zero); err != nil {
			return fmt.Errorf("check the program: %w", err)
		}
	}
	return nil
}

// expect runs the program with a frame, and returns an error if the result or the frame that leaves is another one.
func (p *Path) expect(in frame, result uint32, want frame) error {
	got, out, err := p.run(in.bytes(), nil)
	if err != nil {
		return fmt.Errorf("check the program: %w", err)
	}
	if got != result || !bytes.Equal(out, want.bytes()) {
		return fmt.Errorf("the program does not work on this system: result %d, want %d; a packet became %x, want %x", got, result, out, want.bytes())
	}
	return nil
}
