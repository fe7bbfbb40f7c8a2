package framing

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestEveryFrameLength checks that ChannelData of every size is framed with its padding, which the length field does not count.
func TestEveryFrameLength(t *testing.T) {
	head := make([]byte, stun.ChannelDataHeaderLen)
	for size := range 1 << 16 {
		binary.BigEndian.PutUint16(head, 0x4000)
		binary.BigEndian.PutUint16(head[2:], uint16(size))
		want := stun.ChannelDataHeaderLen + size
		for want%4 != 0 {
			want++
		}
		n, err := Next(bufio.NewReaderSize(bytes.NewReader(head), 16), false)
		if n != want || err != nil {
			t.Fatalf("%d bytes of data: a frame of %d, %v, want %d", size, n, err, want)
		}
	}
}

func FuzzFraming(f *testing.F) {
	f.Add([]byte{0x40, 0x00, 0xFF, 0xFC, 1, 2, 3, 4, 5})
	f.Add(turntest.ChannelData(0x4000, "hello"))
	f.Add([]byte("\x00\x01\x00\x04\x21\x12\xa4\x42xxxxxxxxxxxx\x00\x00\x00\x00\x40\x00\x00\x01x..."))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(b), 16)
		rest := b
		for first := true; ; first = false {
			n, err := Next(r, first)
			if err != nil {
				return
			}
			if n < stun.ChannelDataHeaderLen || n%4 != 0 || n > stun.HeaderLen+65536 {
				t.Fatalf("frame of %d bytes", n)
			}
			if first && stun.IsChannelData(rest[0]) {
				t.Fatal("ChannelData as the first frame")
			}
			frame := make([]byte, n)
			if _, err := io.ReadFull(r, frame); err != nil {
				return
			}
			if !bytes.Equal(frame, rest[:n]) {
				t.Fatal("the frame is not what was there")
			}
			rest = rest[n:]
		}
	})
}
