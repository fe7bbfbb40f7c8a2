//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// BenchmarkProgram measures the program with different numbers of channels, all of which are used in turn. What the kernel does before
// and after it is not included. BenchmarkMemory is what the memory takes of that.
func BenchmarkProgram(b *testing.B) {
	for _, channels := range []int{20, 20000} {
		b.Run(fmt.Sprint(channels), func(b *testing.B) {
			p, frames := thereAndBack(b, channels)
			measureProgram(b, frames, func(frame []byte) time.Duration { return runThereAndBack(b, p, frame) })
		})
	}
}

// BenchmarkMemory measures a program that writes to one entry for each packet, of as many as BenchmarkProgram uses, and does nothing
// else.
func BenchmarkMemory(b *testing.B) {
	for _, channels := range []int{20, 20000} {
		b.Run(fmt.Sprint(channels), func(b *testing.B) {
			p, frames := toucher(b, channels)
			measureProgram(b, frames, func(frame []byte) time.Duration {
				_, took, err := p.Benchmark(frame, 2, nil)
				if err != nil {
					b.Fatal(err)
				}
				return 2 * took
			})
		})
	}
}

// measureProgram has run pass each frame through a program twice, in an order that no processor predicts.
func measureProgram(b *testing.B, frames [][]byte, run func(frame []byte) time.Duration) {
	var total time.Duration
	b.ResetTimer()
	for i := range b.N {
		total += run(frames[i*7919%len(frames)])
	}
	b.ReportMetric(float64(total.Nanoseconds())/float64(b.N)/2, "ns/packet")
}

// toucher returns a program that counts a packet in the entry whose number the packet contains, and replaces that by another number.
// It also returns a packet for each channel.
func toucher(tb testing.TB, channels int) (*ebpf.Program, [][]byte) {
	tb.Helper()
	loadForTest(tb, 1) // or skip
	const (
		packet, packetEnd = 76, 80 // in struct __sk_buff
		at                = 14     // of the number in a packet
	)
	var entry objectEntry
	entries := make([]objectEntry, 2*channels)
	order := rand.Perm(len(entries))
	for i, number := range order {
		entries[number].Reverse = uint32(order[(i+1)%len(order)])
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Array, Flags: unix.BPF_F_MMAPABLE, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(entry)), MaxEntries: uint32(len(entries)),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = m.Close() })
	shared, err := share[objectEntry](m)
	if err != nil {
		tb.Fatal(err)
	}
	copy(shared, entries)
	if err := unshare(shared, m); err != nil {
		tb.Fatal(err)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R6, asm.R1, packet, asm.Word),
			asm.LoadMem(asm.R2, asm.R1, packetEnd, asm.Word),
			asm.Mov.Reg(asm.R3, asm.R6),
			asm.Add.Imm(asm.R3, at+4),
			asm.JGT.Reg(asm.R3, asm.R2, "end"),
			asm.LoadMem(asm.R2, asm.R6, at, asm.Word),
			asm.StoreMem(asm.RFP, -4, asm.R2, asm.Word),
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "end"),
			asm.Mov.Imm(asm.R2, 1),
			asm.StoreXAdd(asm.R0, asm.R2, asm.DWord), // in the first line
			asm.LoadMem(asm.R3, asm.R0, int16(unsafe.Offsetof(entry.Reverse)), asm.Word),
			asm.Add.Imm(asm.R0, int32(unsafe.Offsetof(entry.RelayedPackets))),
			asm.StoreXAdd(asm.R0, asm.R2, asm.DWord), // in the second line
			asm.StoreMem(asm.R6, at, asm.R3, asm.Word),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
			asm.Return(),
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	var frames [][]byte
	for i := range channels {
		f := frame{from: netip.MustParseAddrPort("192.0.2.1:1"), to: netip.MustParseAddrPort("192.0.2.2:2"), payload: data(160)}.bytes()
		binary.NativeEndian.PutUint32(f[at:], uint32(order[2*i]))
		frames = append(frames, f)
	}
	return p, frames
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
	// In no order, so that an entry tells nothing about the next one.
	refused := make(map[int]bool)
	for _, i := range rand.Perm(channels) {
		pair := i / 2
		client, server, relay, peer := at(1, pair), at(2, 0), at(3, pair), at(4, pair)
		if i%2 == 1 {
			client, server, relay, peer = server, client, peer, relay
		}
		c, err := p.Add(Binding{
			Client: client, Server: server, Number: number, Relay: relay, Peer: peer, ToClient: loopback, ToPeer: loopback, Until: now.Add(time.Hour),
		}, now)
		switch {
		case errors.Is(err, ErrTaken), errors.Is(err, ErrPlace): // by chance
			refused[pair] = true
		case err != nil:
			tb.Fatal(err)
		default:
			p.entries.all[c.toPeer].Proven, p.entries.all[c.toClient].Proven = 1, 1
		}
	}
	var frames [][]byte
	for pair := range channels / 2 {
		if !refused[pair] {
			frames = append(frames,
				frame{from: at(1, pair), to: at(2, 0), payload: channelData(number, data(160)), hops: 64}.bytes(),
				frame{from: at(3, pair), to: at(4, pair), payload: data(160), hops: 64}.bytes())
		}
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
