//go:build amd64 || arm64

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// BenchmarkProgram measures the program with different numbers of channels, all of which are used in turn. What the kernel does before
// and after it is not included.
func BenchmarkProgram(b *testing.B) {
	for _, channels := range []int{20, 20000} {
		b.Run(fmt.Sprint(channels), func(b *testing.B) {
			p, frames := thereAndBack(b, channels)
			var total time.Duration
			b.ResetTimer()
			for i := range b.N {
				total += runThereAndBack(b, p, frames[i*7919%len(frames)])
			}
			b.ReportMetric(float64(total.Nanoseconds())/float64(b.N)/2, "ns/packet")
		})
	}
}

// thereAndBack adds channels in pairs, of which the second makes of a relayed packet the one that it was, apart from its hops. It
// returns a packet for each channel.
func thereAndBack(tb testing.TB, channels int) (*Path, [][]byte) {
	tb.Helper()
	now := time.Now()
	p := loadForTest(tb, channels)
	at := func(host byte, i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, host, byte(i >> 14)}), 1024+uint16(i&0x3fff))
	}
	var frames [][]byte
pairs:
	for i := range channels / 2 {
		client, server, relay, peer := at(1, i), at(2, 0), at(3, i), at(4, i)
		for _, b := range []Binding{
			{Client: client, Server: server, Relay: relay, Peer: peer},
			{Client: server, Server: client, Relay: peer, Peer: relay},
		} {
			b.Number, b.ToClient, b.ToPeer, b.Until = number, loopback, loopback, now.Add(time.Hour)
			c, err := p.Add(b, now)
			if errors.Is(err, ErrTaken) || errors.Is(err, ErrPlace) { // by chance
				continue pairs
			}
			if err != nil {
				tb.Fatal(err)
			}
			p.entries.all[c.toPeer].Proven, p.entries.all[c.toClient].Proven = 1, 1
		}
		frames = append(frames,
			frame{from: client, to: server, payload: channelData(number, data(160)), hops: 64}.bytes(),
			frame{from: relay, to: peer, payload: data(160), hops: 64}.bytes())
	}
	return p, frames
}

// runThereAndBack has the program relay a packet twice, and returns how long that took.
func runThereAndBack(tb testing.TB, p *Path, in []byte) time.Duration {
	p.Beat()
	result, took, err := p.objects.MailturnRelay.Benchmark(in, 2, nil)
	if err != nil || result != redirected {
		tb.Fatalf("result %d (%v)", result, err)
	}
	return 2 * took
}
