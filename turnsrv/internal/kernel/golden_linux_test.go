//go:build amd64 || arm64

package kernel

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// loadForTest loads the program, or skips the test without the privilege to do so.
func loadForTest(t testing.TB, channels int) *Path {
	t.Helper()
	p, err := Load(channels, slog.New(slog.DiscardHandler))
	var refused *ebpf.VerifierError // with EACCES as well
	if !errors.As(err, &refused) && (errors.Is(err, fs.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported)) {
		t.Skip("requires CAP_BPF and CAP_NET_ADMIN: ", err)
	}
	if refused != nil {
		t.Fatalf("%-40v", refused) // the end of what the verifier says
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// skBuff is the part of struct __sk_buff that tests set.
type skBuff struct {
	_        [164]byte
	Segments uint32
	_        [8]byte
	Size     uint32
	_        [4]byte
}

// run runs the program with a frame that arrives over the loopback interface, and returns its result and the frame as it leaves.
func run(t *testing.T, p *Path, in []byte, ctx any) (result uint32, out []byte) {
	t.Helper()
	result, out, err := p.run(in, ctx)
	if err != nil {
		t.Fatal(err)
	}
	return result, out
}

func ports(s ...string) (a []netip.AddrPort) {
	for _, s := range s {
		a = append(a, netip.MustParseAddrPort(s))
	}
	return a
}

const number = 0x4001

// Routes over the loopback interface, on which run has its frames arrive.
var loopback = Route{Interface: 1, MTU: 1500}

// bindings has a binding for each family.
func bindings(now time.Time) map[string]Binding {
	v4 := ports("192.0.2.1:5000", "198.51.100.1:3478", "198.51.100.2:50000", "203.0.113.9:6000")
	v6 := ports("[2001:db8:1::1]:5000", "[2001:db8::1]:3478", "[2001:db8::2]:50000", "[2001:db8:2::ffff:9]:6000")
	all := make(map[string]Binding)
	for name, a := range map[string][]netip.AddrPort{"IPv4": v4, "IPv6": v6} {
		all[name] = Binding{
			Client: a[0], Server: a[1], Relay: a[2], Peer: a[3], Number: number, ToClient: loopback, ToPeer: loopback,
			Until: now.Add(time.Minute),
		}
	}
	return all
}

// offload adds a binding to a new program, and proves both directions.
func offload(t *testing.T, b Binding, now time.Time) (*Path, *Channel) {
	t.Helper()
	p := loadForTest(t, 4)
	c, err := p.Add(b, now)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		run(t, p, frame{from: b.Client, to: b.Server, payload: channelData(number, []byte("ping")), hops: 64}.bytes(), nil)
		run(t, p, frame{from: b.Peer, to: b.Relay, payload: []byte("pong"), hops: 64}.bytes(), nil)
	}
	return p, c
}

// checkRelayed checks that a frame leaves as another one.
func checkRelayed(t *testing.T, p *Path, in, want frame) {
	t.Helper()
	result, out := run(t, p, in.bytes(), nil)
	if result != redirected || !bytes.Equal(out, want.bytes()) {
		counts, err := p.Passed()
		t.Errorf("result %d, want %d\n%s\ngot  %x\nwant %x (passed up: %v %v)", result, redirected, in.payload, out, want.bytes(), counts, err)
	}
}

// checkUp checks that a frame is passed up unmodified, for a reason. NumReasons means that none is counted.
func checkUp(t *testing.T, p *Path, in []byte, ctx any, reason Reason) {
	t.Helper()
	before, err := p.Passed()
	if err != nil {
		t.Fatal(err)
	}
	result, out := run(t, p, in, ctx)
	after, err := p.Passed()
	if err != nil {
		t.Fatal(err)
	}
	if result != passedUp || !bytes.Equal(out, in) {
		t.Errorf("result %d, want %d; the frame\n%x became\n%x", result, uint32(passedUp), in, out)
	}
	if reason < NumReasons {
		before[reason]++
	}
	if after != before {
		t.Errorf("counts by reason are %v, want %v", after, before)
	}
}

func data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + n)
	}
	if n > 0 {
		b[0] = 0x80 // RTP
	}
	return b
}

// TestRelay sends plain packets of many sizes in both directions, and compares whole frames.
func TestRelay(t *testing.T) {
	now := time.Now()
	for name, b := range bindings(now) {
		t.Run(name, func(t *testing.T) {
			p, c := offload(t, b, now)
			beforeTo, beforeFrom := c.Counts()
			var want Counts
			most := 1500 - 40 - 8 - 4 // what fits into the MTU: TestPassedUp has more
			if b.Peer.Addr().Is4() {
				most += 20
			}
			for n := range most + 1 {
				hops, class := byte(2+n%250), byte(n)
				payload := data(n)
				if n == 27 {
					payload[0] = 0x40 // looks like ChannelData of a channel that is not bound
				}
				short := frame{from: b.Client, to: b.Server, payload: channelData(number, payload), hops: hops, class: class, fragment: dontFragment}
				toPeer := frame{from: b.Relay, to: b.Peer, payload: payload, hops: hops - 1, class: class, fragment: dontFragment}
				checkRelayed(t, p, short, toPeer)
				checkRelayed(t, p, frame{from: b.Peer, to: b.Relay, payload: payload, hops: hops, class: class},
					frame{from: b.Server, to: b.Client, payload: channelData(number, payload), hops: hops - 1, class: class})
				want.Packets++
				want.Bytes += uint64(n)
				if t.Failed() {
					return
				}
			}
			to, from := c.Counts()
			to, from = Counts{to.Packets - beforeTo.Packets, to.Bytes - beforeTo.Bytes}, Counts{from.Packets - beforeFrom.Packets, from.Bytes - beforeFrom.Bytes}
			if to != want || from != want {
				t.Errorf("counted %v and %v, want %v", to, from, want)
			}
		})
	}
}

// TestPadding checks that padding of ChannelData, and of short Ethernet frames, is removed.
func TestPadding(t *testing.T) {
	now := time.Now()
	for name, b := range bindings(now) {
		t.Run(name, func(t *testing.T) {
			p, _ := offload(t, b, now)
			for n := range 70 {
				for padding := range 4 {
					payload := data(n)
					in := frame{from: b.Client, to: b.Server, payload: append(channelData(number, payload), make([]byte, padding)...), hops: 9}
					want := frame{from: b.Relay, to: b.Peer, payload: payload, hops: 8}
					checkRelayed(t, p, in, want)
					in.trailer = bytes.Repeat([]byte{0xaa}, 18)
					checkRelayed(t, p, in, want)
				}
				in := frame{from: b.Peer, to: b.Relay, payload: data(n), hops: 9, trailer: bytes.Repeat([]byte{0xaa}, 18)}
				checkRelayed(t, p, in, frame{from: b.Server, to: b.Client, payload: channelData(number, data(n)), hops: 8})
			}
		})
	}
}

// TestBothCallersHere relays between two clients of the server in one step.
func TestBothCallersHere(t *testing.T) {
	now := time.Now()
	for name, one := range bindings(now) {
		t.Run(name, func(t *testing.T) {
			p := loadForTest(t, 4)
			next := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()+1) }
			one.Local, one.Peer, one.ToPeer = true, next(one.Relay), Route{}
			two := one
			two.Client, two.Relay, two.Peer, two.Number = next(one.Client), one.Peer, one.Relay, number+1
			toTwo := func(payload []byte) (in, out frame) {
				return frame{from: one.Client, to: one.Server, payload: channelData(number, payload), hops: 64, class: 0xb9},
					frame{from: two.Server, to: two.Client, payload: channelData(number+1, payload), hops: 63, class: 0xb9}
			}
			first, err := p.Add(one, now)
			if err != nil {
				t.Fatal(err)
			}
			in, _ := toTwo(data(10))
			checkUp(t, p, in.bytes(), nil, Partner)
			second, err := p.Add(two, now)
			if err != nil {
				t.Fatal(err)
			}
			checkUp(t, p, in.bytes(), nil, Unproven)
			checkRelayed(t, p, frame{from: two.Client, to: two.Server, payload: channelData(number+1, data(3)), hops: 64},
				frame{from: one.Server, to: one.Client, payload: channelData(number, data(3)), hops: 63})
			for n := range 1400 {
				in, out := toTwo(data(n))
				checkRelayed(t, p, in, out)
			}
			to, _ := first.Counts()
			if _, from := second.Counts(); to.Packets != 1400 || from != to {
				t.Errorf("counted %v from one and %v to the other", to, from)
			}
			// A packet from outside with an address of the relay itself is forged.
			checkUp(t, p, frame{from: two.Relay, to: one.Relay, payload: data(9), hops: 64}.bytes(), nil, Interface)
			second.End(now)
			checkUp(t, p, in.bytes(), nil, Partner)
		})
	}
}

// TestPassedUp has packets of an entry that are not plain, and checks that they are passed up unmodified.
func TestPassedUp(t *testing.T) {
	now := time.Now()
	for name, b := range bindings(now) {
		t.Run(name, func(t *testing.T) {
			p, _ := offload(t, b, now)
			toPeer := frame{from: b.Client, to: b.Server, payload: channelData(number, data(100)), hops: 64}
			toClient := frame{from: b.Peer, to: b.Relay, payload: data(100), hops: 64}
			ip := 20
			if !b.Client.Addr().Is4() {
				ip = 40
			}
			for _, original := range []frame{toPeer, toClient} {
				up := func(what string, reason Reason, change func(*frame), alter func([]byte) []byte, ctx any) {
					t.Helper()
					f := original
					if change != nil {
						change(&f)
					}
					in := f.bytes()
					if alter != nil {
						in = alter(in)
					}
					t.Log(what)
					checkUp(t, p, in, ctx, reason)
				}
				udp := func(at int, value byte) func([]byte) []byte {
					return func(in []byte) []byte { in[14+ip+at] = value; return in }
				}
				up("another station", Interface, func(f *frame) { f.station = 7 }, nil, nil)
				up("another source port", NumReasons, func(f *frame) { f.from = netip.AddrPortFrom(f.from.Addr(), 1) }, nil, nil)
				up("another source address", NumReasons, func(f *frame) { f.from = netip.AddrPortFrom(f.from.Addr().Next(), f.from.Port()) }, nil, nil)
				up("another destination", NumReasons, func(f *frame) { f.to = netip.AddrPortFrom(f.to.Addr().Next(), f.to.Port()) }, nil, nil)
				up("last hop", Hops, func(f *frame) { f.hops = 1 }, nil, nil)
				up("no hop", Hops, func(f *frame) { f.hops = 0 }, nil, nil)
				up("no checksum", Checksum, nil, func(in []byte) []byte { in[14+ip+6], in[14+ip+7] = 0, 0; return in }, nil)
				up("checksum of the pseudo-header only", Checksum, nil, func(in []byte) []byte {
					sum := ^checksum(original.pseudoHeader(8 + len(original.payload)))
					in[14+ip+6], in[14+ip+7] = byte(sum>>8), byte(sum)
					return in
				}, nil)
				up("several datagrams in one", Offloaded, nil, nil, &skBuff{Segments: 2, Size: 500})
				up("a UDP length that is too large", Length, nil, udp(5, 255), nil)
				up("a UDP length that is too small", Length, nil, udp(5, 7), nil)
				up("a frame that was cut off", Length, nil, func(in []byte) []byte { return in[:len(in)-1] }, nil)
				up("a frame that ends in the UDP header", NumReasons, nil, func(in []byte) []byte { return in[:14+ip+6] }, nil)
				if ip == 20 {
					up("first fragment", Fragment, func(f *frame) { f.fragment = moreFragments }, nil, nil)
					up("last fragment", NumReasons, func(f *frame) { f.fragment = 100 }, nil, nil)
					up("IP options", NumReasons, nil, func(in []byte) []byte { in[14] = 0x46; return in }, nil)
				} else {
					up("fragment header", NumReasons, nil, func(in []byte) []byte { in[20] = 44; return in }, nil)
				}
				up("TCP", NumReasons, nil, func(in []byte) []byte { in[14+map[int]int{20: 9, 40: 6}[ip]] = 6; return in }, nil)
				up("VLAN", NumReasons, nil, func(in []byte) []byte {
					return append(append(append([]byte(nil), in[:12]...), 0x81, 0, 0, 10), in[12:]...)
				}, nil)
			}
			from := func(payload []byte) []byte {
				return frame{from: b.Client, to: b.Server, payload: payload, hops: 64}.bytes()
			}
			checkUp(t, p, from(channelData(number+1, data(9))), nil, NumReasons)               // another channel
			checkUp(t, p, from(append([]byte{0, 1, 0, 0}, data(16)...)), nil, NumReasons)      // STUN
			checkUp(t, p, from([]byte{0x40, 1, 0}), nil, NumReasons)                           // shorter than a header
			checkUp(t, p, from(append(channelData(number, data(9)), 1)), nil, Length)          // padding that is not zero
			checkUp(t, p, from(append(channelData(number, data(9)), 0, 0, 1)), nil, Length)    // the same
			checkUp(t, p, from(append(channelData(number, data(8)), 0, 0, 0, 0)), nil, Length) // more than padding
			checkUp(t, p, from(channelData(number, data(9))[:12]), nil, Length)                // less than announced
			for n := 1500 - ip - 8 - 4 + 1; n <= 1500-ip-8; n++ {
				checkUp(t, p, frame{from: b.Peer, to: b.Relay, payload: data(n), hops: 64}.bytes(), nil, MTU)
			}
			checkRelayed(t, p, toPeer, frame{from: b.Relay, to: b.Peer, payload: data(100), hops: 63}) // it still works
		})
	}
}

// TestWrongChecksum checks that a damaged packet stays one: its receiver drops it, as without the program.
func TestWrongChecksum(t *testing.T) {
	now := time.Now()
	for name, b := range bindings(now) {
		t.Run(name, func(t *testing.T) {
			p, _ := offload(t, b, now)
			in := frame{from: b.Peer, to: b.Relay, payload: data(100), hops: 64}.bytes()
			in[len(in)-1]++
			want := frame{from: b.Server, to: b.Client, payload: channelData(number, data(100)), hops: 63}.bytes()
			want[len(want)-1]++
			if result, out := run(t, p, in, nil); result != redirected || !bytes.Equal(out, want) {
				t.Errorf("result %d, want %d\ngot  %x\nwant %x", result, redirected, out, want)
			}
		})
	}
}

// TestUnproven checks that nothing leaves to a party from which nothing has come through the program: a peer that has not answered,
// or one whose packets netfilter rewrites.
func TestUnproven(t *testing.T) {
	now := time.Now()
	for name, b := range bindings(now) {
		t.Run(name, func(t *testing.T) {
			p := loadForTest(t, 4)
			if _, err := p.Add(b, now); err != nil {
				t.Fatal(err)
			}
			toPeer := frame{from: b.Client, to: b.Server, payload: channelData(number, data(9)), hops: 64}
			toClient := frame{from: b.Peer, to: b.Relay, payload: data(9), hops: 64}
			for range 3 {
				checkUp(t, p, toPeer.bytes(), nil, Unproven)
			}
			checkRelayed(t, p, toClient, frame{from: b.Server, to: b.Client, payload: channelData(number, data(9)), hops: 63})
			checkRelayed(t, p, toPeer, frame{from: b.Relay, to: b.Peer, payload: data(9), hops: 63})
		})
	}
}

// TestInterface checks that a packet over another interface than the one that leads to its sender is left to the system.
func TestInterface(t *testing.T) {
	now := time.Now()
	for name, b := range bindings(now) {
		t.Run(name, func(t *testing.T) {
			b.ToClient.Interface, b.ToPeer.Interface = 2, 3
			p := loadForTest(t, 4)
			if _, err := p.Add(b, now); err != nil {
				t.Fatal(err)
			}
			checkUp(t, p, frame{from: b.Client, to: b.Server, payload: channelData(number, data(9)), hops: 64}.bytes(), nil, Interface)
			checkUp(t, p, frame{from: b.Peer, to: b.Relay, payload: data(9), hops: 64}.bytes(), nil, Interface)
		})
	}
}

// TestEnd checks expiry, extension, the end, and that an entry rests before another channel gets it.
func TestEnd(t *testing.T) {
	now := time.Now()
	b := bindings(now)["IPv4"]
	p, c := offload(t, b, now)
	in := frame{from: b.Client, to: b.Server, payload: channelData(number, data(9)), hops: 64}
	out := frame{from: b.Relay, to: b.Peer, payload: data(9), hops: 63}
	back := frame{from: b.Peer, to: b.Relay, payload: data(9), hops: 64}
	c.Extend(now.Add(-time.Second), now)
	checkUp(t, p, in.bytes(), nil, Ended)
	checkUp(t, p, back.bytes(), nil, Ended)
	c.Extend(now.Add(time.Minute), now)
	checkRelayed(t, p, in, out)

	if _, err := p.Add(b, now); !errors.Is(err, ErrTaken) {
		t.Errorf("the same binding again: %v", err)
	}
	counted, _ := c.Counts()
	if to, _ := c.End(now); to != counted || to.Packets == 0 {
		t.Errorf("the end counts %v, before it %v", to, counted)
	}
	checkUp(t, p, in.bytes(), nil, NumReasons)
	checkUp(t, p, back.bytes(), nil, NumReasons)

	// Two of eight entries have ended, and are not given out before they have rested.
	for i, want := range []error{nil, nil, nil, ErrFull} {
		b.Number++
		b.Client, b.Peer = netip.AddrPortFrom(b.Client.Addr(), b.Client.Port()+1), netip.AddrPortFrom(b.Peer.Addr(), b.Peer.Port()+1)
		if _, err := p.Add(b, now); !errors.Is(err, want) {
			t.Errorf("binding %d: %v, want %v", i, err, want)
		}
	}
	if _, err := p.Add(b, now.Add(restFor)); err != nil {
		t.Errorf("after the rest: %v", err)
	}
}

// TestStale checks that the program passes everything up when the process has not reported for five seconds.
func TestStale(t *testing.T) {
	now := time.Now()
	b := bindings(now)["IPv6"]
	p, _ := offload(t, b, now)
	in := frame{from: b.Client, to: b.Server, payload: channelData(number, data(9)), hops: 64}
	atomic.StoreUint64(&p.control.Alive, monotonic(-5001*time.Millisecond))
	checkUp(t, p, in.bytes(), nil, Stale)
	atomic.StoreUint64(&p.control.Alive, monotonic(-4*time.Second))
	checkRelayed(t, p, in, frame{from: b.Relay, to: b.Peer, payload: data(9), hops: 63})
	atomic.StoreUint64(&p.control.Alive, monotonic(-time.Minute))
	p.Beat()
	checkRelayed(t, p, in, frame{from: b.Relay, to: b.Peer, payload: data(9), hops: 63})
}

// TestLimit checks that an entry relays its burst and no more, in bits or in packets, and nothing of it at first.
func TestLimit(t *testing.T) {
	now := time.Now()
	for name, limits := range map[string]Limit{
		"packets": {Packets: 1, PacketBurst: 3},
		"bits":    {Bits: 137 * 8, BitBurst: 137 * 8 * 3}, // each packet has 109 bytes of data, and 28 of headers
	} {
		t.Run(name, func(t *testing.T) {
			b := bindings(now)["IPv4"]
			p, c := offload(t, b, now)
			in := frame{from: b.Client, to: b.Server, payload: channelData(number, data(109)), hops: 64}
			out := frame{from: b.Relay, to: b.Peer, payload: data(109), hops: 63}
			c.SetLimits(limits, Limit{})
			for range 3 {
				checkRelayed(t, p, in, out)
			}
			checkUp(t, p, in.bytes(), nil, Limited)
			checkRelayed(t, p, frame{from: b.Peer, to: b.Relay, payload: data(9), hops: 64},
				frame{from: b.Server, to: b.Client, payload: channelData(number, data(9)), hops: 63})
			c.SetLimits(Limit{}, Limit{})
			checkRelayed(t, p, in, out)

			c.End(now)
			b.LimitTo = limits
			if _, err := p.Add(b, now); err != nil {
				t.Fatal(err)
			}
			checkUp(t, p, in.bytes(), nil, Limited)
		})
	}
}

// TestFamilies refuses what the program cannot translate.
func TestFamilies(t *testing.T) {
	now := time.Now()
	p := loadForTest(t, 4)
	b := bindings(now)["IPv4"]
	other := bindings(now)["IPv6"]
	b.Relay, b.Peer = other.Relay, other.Peer
	if _, err := p.Add(b, now); !errors.Is(err, ErrFamily) {
		t.Errorf("IPv4 client with IPv6 peer: %v", err)
	}
}

// TestReasons checks that the program and the package count the same reasons.
func TestReasons(t *testing.T) {
	if uint32(NumReasons) != uint32(objectReasonREASONS) || uint32(Failed) != uint32(objectReasonFAILED) || uint32(Checksum) != uint32(objectReasonCHECKSUM) {
		t.Error("the reasons of the program differ")
	}
	seen := make(map[string]bool)
	for r := range NumReasons {
		if name := r.String(); name == "" || seen[name] || strings.ToLower(name) != name {
			t.Errorf("reason %d is called %q", r, name)
		} else {
			seen[name] = true
		}
	}
}
