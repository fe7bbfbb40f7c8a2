package generator

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"unsafe"
)

// TestDatagramsAreChecked checks valid packets, and packets with one mistake.
func TestDatagramsAreChecked(t *testing.T) {
	const size = 40
	one := Call{
		{Local: netip.MustParseAddr("127.1.0.1"), Remote: netip.MustParseAddrPort("127.0.0.1:3478"), Channel: 0x4001},
		{Local: netip.MustParseAddr("127.100.0.1"), Remote: netip.MustParseAddrPort("127.0.0.1:50000")},
	}
	for _, tt := range []struct {
		name      string
		direction int
		change    func(p *packet, length *int)
		right     bool
	}{
		{"right, to the peer", Peer, func(*packet, *int) {}, true},
		{"right, to the client", Client, func(*packet, *int) {}, true},
		{"another time", Peer, func(p *packet, _ *int) { p.data[7]++ }, true},
		{"nobody's address", Peer, func(p *packet, _ *int) { p.control.info.Addr[3]++ }, false},
		{"from elsewhere", Peer, func(p *packet, _ *int) { p.addr.Addr[3]++ }, false},
		{"from another port", Client, func(p *packet, _ *int) { p.addr.Port++ }, false},
		{"on another channel", Client, func(p *packet, _ *int) { p.data[1]++ }, false},
		{"no ChannelData", Client, func(p *packet, _ *int) { p.data[2]++ }, false},
		{"changed", Peer, func(p *packet, _ *int) { p.data[size-1]++ }, false},
		{"cut", Peer, func(_ *packet, length *int) { *length-- }, false},
		{"longer", Peer, func(_ *packet, length *int) { *length++ }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, err := New(Load{Calls: 1, PPS: 1, Burst: 1, Size: size}, "")
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			if err := g.Enter([]Call{one}); err != nil {
				t.Fatal(err)
			}
			want := one[tt.direction]
			p, header := new(packet), 0
			if tt.direction == Client {
				header = 4
				binary.BigEndian.PutUint16(p.data[0:], uint16(want.Channel))
				binary.BigEndian.PutUint16(p.data[2:], size)
			}
			copy(p.data[header+headerLen:], g.flows[tt.direction][0].fill[headerLen:])
			length := header + size
			p.addr.Addr, p.control.info.Addr = want.Remote.Addr().As4(), want.Local.As4()
			binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&p.addr.Port))[:], want.Remote.Port())
			tt.change(p, &length)
			call, payload, err := g.sides[tt.direction].(*datagrams).open(p, length)
			if err == nil {
				_, err = g.check(call, tt.direction, payload)
			}
			if (err == nil) != tt.right {
				t.Errorf("got %v", err)
			}
			if err == nil {
				if _, err = g.check(call, tt.direction, payload); err == nil {
					t.Error("it was counted twice")
				}
			}
		})
	}
}

// TestEarlierPacketsAreDiscarded has a packet of an earlier call arrive before the calls are known.
func TestEarlierPacketsAreDiscarded(t *testing.T) {
	g, err := New(Load{Calls: 1, PPS: 1, Burst: 1, Size: MinSize}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	port, _ := g.Ports()
	late, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr("127.9.9.9"), port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if _, err := late.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	party := Party{Local: netip.MustParseAddr("127.1.0.1"), Remote: netip.MustParseAddrPort("127.0.0.1:3478")}
	if err := g.Enter([]Call{{party, party}}); err != nil {
		t.Fatal(err)
	}
	if came, err := g.sides[Client].receive(false, func(int, []byte) error { return nil }); came || err != nil {
		t.Errorf("received: %v, %v", came, err)
	}
}

// TestStreamFrames splits a stream that arrives in small pieces into frames.
func TestStreamFrames(t *testing.T) {
	frames := []byte("\x40\x01\x00\x05hello\x00\x00\x00\x40\x01\x00\x04four")
	for _, tt := range []struct {
		name  string
		sent  []byte
		right bool
	}{
		{"right", frames, true},
		{"on another channel", append([]byte{0x40, 2}, frames[2:]...), false},
		{"too long", append([]byte{0x40, 1, 0xFF, 0xFF}, make([]byte, 65<<10)...), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stream := &Stream{conn: &pieces{rest: tt.sent}}
			s := streams{calls: []streamCall{{stream: stream, channel: 0x4001, in: make([]byte, 64<<10)}}}
			var got [][]byte
			err := s.read(0, func(_ int, payload []byte) error {
				got = append(got, bytes.Clone(payload))
				return nil
			})
			if (err == nil) != tt.right {
				t.Errorf("got %v", err)
			}
			if tt.right && (len(got) != 2 || string(got[0]) != "hello" || string(got[1]) != "four") {
				t.Errorf("got %q", got)
			}
		})
	}
}

// pieces is a reader that returns three bytes at a time.
type pieces struct {
	net.Conn
	rest []byte
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, errWouldBlock
	}
	n := copy(b, p.rest[:min(3, len(p.rest))])
	if n == 0 {
		return 0, errors.New("no room")
	}
	p.rest = p.rest[n:]
	return n, nil
}

func TestWindow(t *testing.T) {
	for _, tt := range []struct {
		name  string
		came  []uint64
		first []bool
	}{
		{"in order", []uint64{0, 1, 2}, []bool{true, true, true}},
		{"twice", []uint64{0, 0, 1, 0}, []bool{true, false, true, false}},
		{"out of order", []uint64{5, 3, 3, 4, 5}, []bool{true, true, false, true, false}},
		{"after a gap", []uint64{0, 255, 1, 256, 0, 1}, []bool{true, true, true, true, false, false}},
		{"after a long gap", []uint64{7, 1000, 999, 7, 745, 744}, []bool{true, true, true, false, true, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var w window
			for i, number := range tt.came {
				if got := w.first(number); got != tt.first[i] {
					t.Errorf("%d, the %d. one: got %v", number, i, got)
				}
			}
		})
	}
}
