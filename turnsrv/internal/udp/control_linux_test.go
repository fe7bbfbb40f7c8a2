package udp

import (
	"bytes"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receivedControl returns control messages as the kernel writes them for a datagram to an IPv6 address.
func receivedControl(segment int32) []byte {
	var c control
	length := c.putLocal(false, netip.MustParseAddr("2001:db8::1"))
	h := c.header(length)
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_GRO
	h.SetLen(unix.CmsgLen(4))
	*controlData[int32](&c, length) = segment
	return c.b[:length+unix.CmsgSpace(4)]
}

func TestParseControl(t *testing.T) {
	at := netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		name    string
		b       []byte
		local   netip.Addr
		segment int
	}{
		{"none", nil, netip.Addr{}, 0},
		{"both", receivedControl(1200), at, 1200},
		{"the second cut off", receivedControl(1200)[:unix.CmsgSpace(unix.SizeofInet6Pktinfo)+unix.CmsgLen(3)], at, 0},
		{"a length below zero", receivedControl(-1), at, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c control
			if local, class, segment := c.parse(copy(c.b[:], tt.b)); local != tt.local || class != 0 || segment != tt.segment {
				t.Errorf("%v, %d, %d, want %v, 0, %d", local, class, segment, tt.local, tt.segment)
			}
		})
	}
}

// FuzzInbox checks that the datagrams of a message consist of exactly its bytes, whatever its control messages contain.
func FuzzInbox(f *testing.F) {
	f.Add([]byte(nil), 100, uint16(0))
	f.Add(receivedControl(100), 350, uint16(64))
	f.Add(receivedControl(100), 400, uint16(64))
	f.Add(receivedControl(1), 65535, uint16(64))
	f.Add(receivedControl(0), 100, uint16(64))
	f.Add(receivedControl(-5), 0, uint16(1000))
	in := NewInbox()
	f.Fuzz(func(t *testing.T, b []byte, length int, controls uint16) {
		length = min(max(0, length), maxDatagram)
		in.datagrams = in.datagrams[:0]
		in.used = 1
		in.places[0].control = control{}
		copy(in.places[0].control.b[:], b)
		in.messages[0].length = uint32(length)
		in.messages[0].header.SetControllen(int(controls))
		in.split()
		var whole []byte
		first := -1
		for i := range in.datagrams {
			data, _, _ := in.Datagram(i)
			if first < 0 {
				first = len(data)
			}
			if last := i == len(in.datagrams)-1; len(data) > first || !last && len(data) != first || len(data) == 0 && length > 0 {
				t.Fatalf("datagram %d of %d has %d bytes, the first %d", i, len(in.datagrams), len(data), first)
			}
			whole = append(whole, data...)
		}
		if len(whole) != length || !bytes.Equal(whole, in.data[0][:length]) {
			t.Fatalf("%d bytes became %d", length, len(whole))
		}
	})
}

// TestControlFits checks that the buffer has room for all control messages of a datagram, and the alignment that they require.
func TestControlFits(t *testing.T) {
	var c control
	if got := c.putSegment(c.putClass(c.putLocal(false, netip.IPv6Loopback()), false, 1), 1); got > controlLen || len(receivedControl(1))+unix.CmsgSpace(4) > controlLen {
		t.Errorf("control messages take %d bytes, and received ones %d", got, len(receivedControl(1)))
	}
	if align := unsafe.Alignof(c); align < unsafe.Alignof(unix.Cmsghdr{}) {
		t.Errorf("the buffer is aligned to %d bytes", align)
	}
}
